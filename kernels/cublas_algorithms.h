#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace winnow {

// cuBLASLt's description of how it computes a product: opaque, valid for one version of the
// library.
using CublasAlgorithm = std::array<uint64_t, 8>;

// What a product is like, as far as the choice of an algorithm goes.
struct MatmulClass {
  DType dtype = DType::kBf16;
  DType out_dtype = DType::kBf16;
  bool accumulates = false;
  int64_t rows = 0;
  int64_t out_features = 0;
  int64_t in_features = 0;
  friend bool operator==(const MatmulClass&, const MatmulClass&) = default;
};

// The algorithms that were fastest when bench/tune_matmul tried them, by GPU and version of
// cuBLASLt, so that all replicas of a model choose alike. Its text is
// kernels/cublas_algorithms.inc. Immutable.
class CublasAlgorithmTable {
 public:
  struct Entry {
    std::string gpu;  // cudaDeviceProp's name, with _ for blanks
    uint64_t version = 0;
    MatmulClass product;
    CublasAlgorithm algorithm{};
    friend bool operator==(const Entry&, const Entry&) = default;
  };

  // The one that is built in.
  static const CublasAlgorithmTable& BuiltIn();
  // Lines as FormatCublasAlgorithms writes them; a line that is none is left out.
  explicit CublasAlgorithmTable(const std::string& text);

  // Within a third of its rows: of the entry that has as many or the next more, since one row more
  // than a tile takes as long as a tile more, else of the next fewer; null: none.
  const CublasAlgorithm* Find(const std::string& gpu, uint64_t version,
                              const MatmulClass& product) const;
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

std::string FormatCublasAlgorithms(const std::vector<CublasAlgorithmTable::Entry>& entries);

}  // namespace winnow
