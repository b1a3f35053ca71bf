#include "kernels/cublas_algorithms.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace winnow {
namespace {

constexpr char kBuiltIn[] =
#include "kernels/cublas_algorithms.inc"
    ;

// Rows this much fewer or more still take the entry's algorithm.
const double kMaxRatio = std::log(4.0 / 3.0);

bool ParseDType(const std::string& name, DType* dtype) {
  *dtype = name == DTypeName(DType::kF32) ? DType::kF32 : DType::kBf16;
  return name == DTypeName(*dtype);
}

}  // namespace

const CublasAlgorithmTable& CublasAlgorithmTable::BuiltIn() {
  static const CublasAlgorithmTable table(kBuiltIn);
  return table;
}

CublasAlgorithmTable::CublasAlgorithmTable(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Entry entry;
    std::string dtype, out_dtype;
    MatmulClass& product = entry.product;
    words >> entry.gpu >> entry.version >> dtype >> out_dtype >> product.accumulates >>
        product.rows >> product.out_features >> product.in_features >> std::hex;
    for (uint64_t& word : entry.algorithm) words >> word;
    if (words && ParseDType(dtype, &product.dtype) && ParseDType(out_dtype, &product.out_dtype)) {
      entries_.push_back(std::move(entry));
    }
  }
}

const CublasAlgorithm* CublasAlgorithmTable::Find(const std::string& gpu, uint64_t version,
                                                  const MatmulClass& product) const {
  const CublasAlgorithm* best = nullptr;
  double best_ratio = kMaxRatio;
  bool best_has_room = false;  // as many rows, or more
  for (const Entry& entry : entries_) {
    MatmulClass same_rows = product;
    same_rows.rows = entry.product.rows;
    if (entry.gpu != gpu || entry.version != version || entry.product != same_rows) continue;
    const double ratio = std::abs(std::log(static_cast<double>(product.rows) / same_rows.rows));
    const bool has_room = same_rows.rows >= product.rows;
    if (ratio > kMaxRatio || (best_has_room && !has_room)) continue;
    if (best_has_room == has_room && ratio > best_ratio) continue;
    best_has_room = has_room;
    best_ratio = ratio;
    best = &entry.algorithm;
  }
  return best;
}

std::string FormatCublasAlgorithms(const std::vector<CublasAlgorithmTable::Entry>& entries) {
  std::ostringstream out;
  for (const CublasAlgorithmTable::Entry& entry : entries) {
    const MatmulClass& product = entry.product;
    out << std::dec << entry.gpu << ' ' << entry.version << ' ' << DTypeName(product.dtype) << ' '
        << DTypeName(product.out_dtype) << ' ' << product.accumulates << ' ' << product.rows << ' '
        << product.out_features << ' ' << product.in_features << std::hex;
    for (const uint64_t word : entry.algorithm) out << ' ' << word;
    out << '\n';
  }
  return out.str();
}

}  // namespace winnow
