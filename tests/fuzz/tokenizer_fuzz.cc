// Any bytes as text for the demo model's tokenizer, and as ids: text comes back, streamed text is
// valid UTF-8, and what is no UTF-8 is refused.
#include "common/utf8.h"
#include "tests/fuzz/fuzz_file.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

namespace {

using winnow::Require;

const winnow::Tokenizer& Demo() {
  static const auto tokenizer =
      *winnow::Tokenizer::Create(std::string(WINNOW_SOURCE_DIR) + "/models/demo");
  return *tokenizer;
}

std::string Stream(const std::vector<int32_t>& ids) {
  winnow::StreamDecoder decoder(Demo());
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = decoder.Add(id);
    Require(winnow::FirstInvalidUtf8(part) == part.size());
    text += part;
  }
  text += decoder.Flush();
  Require(winnow::FirstInvalidUtf8(text) == text.size());
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto plain = Demo().EncodePlain(text);
  const auto raw = Demo().EncodeRaw(text);
  const bool is_valid = winnow::FirstInvalidUtf8(text) == text.size();
  Require(plain.ok() == is_valid && raw.ok() == is_valid);
  if (is_valid) {
    for (const int32_t id : *plain) Require(!Demo().IsSpecial(id));
    Require(Demo().Decode(*plain, true) == text && Demo().Decode(*raw, false) == text);
    Require(Stream(*plain) == text);
  }
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 1 < size; i += 2) ids.push_back(data[i] << 8 | data[i + 1]);
  Stream(ids);
  return 0;
}
