// Any bytes as tokenizer.json: refused, or a tokenizer whose ids are its own.
#include "tests/fuzz/fuzz_file.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  winnow::WriteFuzzFile("tokenizer.json", data, size);
  const auto tokenizer = winnow::Tokenizer::Create(winnow::FuzzFolder());
  if (!tokenizer.ok()) {
    winnow::Require(!tokenizer.status().message().empty());
    return 0;
  }
  const auto ids = (*tokenizer)->EncodeRaw("Hello, w\xC3\xB6rld 123 <s>\n\n\xF0\x9F\x99\x82");
  if (!ids.ok()) return 0;  // a split pattern that takes too long
  for (const int32_t id : *ids) winnow::Require(id >= 0 && id < (*tokenizer)->vocab_size());
  (*tokenizer)->Decode(*ids, true);
  return 0;
}
