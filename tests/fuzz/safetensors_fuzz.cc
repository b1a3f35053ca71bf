// Any bytes as model.safetensors: refused, or every tensor lies within the file.
#include "checkpoint/safetensors.h"
#include "tests/fuzz/fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  winnow::WriteFuzzFile("model.safetensors", data, size);
  const auto checkpoint = winnow::Checkpoint::Open(winnow::FuzzFolder());
  if (!checkpoint.ok()) {
    winnow::Require(!checkpoint.status().message().empty());
    return 0;
  }
  for (const auto& [name, tensor] : (*checkpoint)->tensors()) {
    winnow::Require(tensor.begin <= tensor.end && tensor.end <= size);
    volatile uint8_t sum = 0;  // every byte is read
    for (const std::byte byte : (*checkpoint)->Data(tensor)) sum = sum ^ static_cast<uint8_t>(byte);
    winnow::Require((*checkpoint)->Find(name, tensor.shape).ok());
  }
  return 0;
}
