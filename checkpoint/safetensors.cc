#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors_header.h"
#include "common/json_file.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

namespace fs = std::filesystem;

// FNV-1a of 128 bits, over values written as bytes of fixed order.
class Digest {
 public:
  void AddBytes(absl::Span<const std::byte> bytes) {
    for (std::byte b : bytes) hash_ = (hash_ ^ std::to_integer<unsigned>(b)) * kPrime;
  }
  void AddNumber(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
      hash_ = (hash_ ^ ((value >> shift) & 0xFF)) * kPrime;
  }
  void AddText(const std::string& text) {
    AddNumber(text.size());  // so that no two lists of texts run together
    AddBytes({reinterpret_cast<const std::byte*>(text.data()), text.size()});
  }
  std::string Hex() const {
    char out[33];
    std::snprintf(out, sizeof(out), "%016" PRIx64 "%016" PRIx64, static_cast<uint64_t>(hash_ >> 64),
                  static_cast<uint64_t>(hash_));
    return out;
  }

 private:
  static constexpr unsigned __int128 kPrime = (static_cast<unsigned __int128>(1) << 88) + 0x13B;
  unsigned __int128 hash_ =
      (static_cast<unsigned __int128>(0x6C62272E07BB0142) << 64) + 0x62B821756295C58D;
};

// First, middle and last bytes: one to three pages per tensor, whatever its size.
void AddSamples(absl::Span<const std::byte> data, Digest* digest) {
  constexpr size_t kSample = 64;
  if (data.size() <= 3 * kSample) return digest->AddBytes(data);
  digest->AddBytes(data.first(kSample));
  digest->AddBytes(data.subspan(data.size() / 2, kSample));
  digest->AddBytes(data.last(kSample));
}

bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

// name → file of the index.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  WINNOW_ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonObject(path));
  const auto weight_map = json.find("weight_map");
  if (weight_map == json.end() || !weight_map->is_object() || weight_map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no weight_map object with entries"));
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get<std::string>())) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor '", tensor, "' must name a file of this folder, got ", file.dump()));
    }
    files[tensor] = file.get<std::string>();
  }
  return files;
}

}  // namespace

Checkpoint::Checkpoint() = default;
Checkpoint::~Checkpoint() = default;

absl::Status Checkpoint::AddFile(const std::string& path) {
  WINNOW_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  WINNOW_ASSIGN_OR_RETURN(std::vector<TensorInfo> tensors,
                          ParseSafetensorsHeader(path, file->bytes()));
  for (TensorInfo& tensor : tensors) {
    const auto [it, is_new] = tensors_.emplace(tensor.name, tensor);
    if (!is_new) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor '", tensor.name, "' is named twice, also in ", it->second.file));
    }
  }
  files_.emplace(path, std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& model_dir) {
  const fs::path dir(model_dir);
  const std::string single = (dir / "model.safetensors").string();
  const std::string index_path = (dir / "model.safetensors.index.json").string();
  auto checkpoint = std::unique_ptr<Checkpoint>(new Checkpoint());
  std::error_code error;
  if (fs::exists(single, error)) {
    WINNOW_RETURN_IF_ERROR(checkpoint->AddFile(single));
  } else if (fs::exists(index_path, error)) {
    WINNOW_ASSIGN_OR_RETURN(const auto index, ReadIndex(index_path));
    std::set<std::string> files;
    for (const auto& [tensor, file] : index) files.insert((dir / file).string());
    for (const std::string& file : files) WINNOW_RETURN_IF_ERROR(checkpoint->AddFile(file));
    for (const auto& [tensor, file] : index) {
      const auto it = checkpoint->tensors_.find(tensor);
      if (it == checkpoint->tensors_.end() || it->second.file != (dir / file).string()) {
        return absl::InvalidArgumentError(absl::StrCat(
            index_path, ": tensor '", tensor, "' should be in ", file, ", which lacks it"));
      }
    }
  } else {
    return absl::NotFoundError(
        absl::StrCat(model_dir, ": neither model.safetensors nor model.safetensors.index.json"));
  }
  Digest digest;
  for (const auto& [name, tensor] : checkpoint->tensors_) {
    digest.AddText(name);
    digest.AddText(tensor.dtype);
    digest.AddNumber(tensor.shape.size());
    for (int64_t size : tensor.shape) digest.AddNumber(static_cast<uint64_t>(size));
    AddSamples(checkpoint->Data(tensor), &digest);
  }
  checkpoint->revision_ = digest.Hex();
  return checkpoint;
}

absl::StatusOr<const TensorInfo*> Checkpoint::Find(const std::string& name,
                                                   const std::vector<int64_t>& shape) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end())
    return absl::NotFoundError(absl::StrCat("checkpoint has no tensor '", name, "'"));
  if (it->second.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        it->second.file, ": tensor '", name, "' must have shape [", absl::StrJoin(shape, ", "),
        "], got [", absl::StrJoin(it->second.shape, ", "), "]"));
  }
  return &it->second;
}

absl::Span<const std::byte> Checkpoint::Data(const TensorInfo& tensor) const {
  return files_.at(tensor.file)->bytes().subspan(tensor.begin, tensor.end - tensor.begin);
}

int64_t Checkpoint::total_bytes() const {
  int64_t sum = 0;
  for (const auto& [name, tensor] : tensors_)
    sum += static_cast<int64_t>(tensor.end - tensor.begin);
  return sum;
}

}  // namespace winnow
