// Any bytes as a chat template: refused, or a rendering that ends, in which what the client wrote
// is marked.
#include "common/utf8.h"
#include "tests/fuzz/fuzz_file.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string source(reinterpret_cast<const char*>(data), size);
  if (winnow::FirstInvalidUtf8(source) != source.size()) return 0;
  const auto chat_template = winnow::ChatTemplate::Create(source);
  if (!chat_template.ok()) return 0;
  // No template makes these characters: they stand for what only a client writes.
  const std::string secret = "\xF3\xB0\x80\x80\xF3\xB0\x80\x81";
  const auto text = chat_template->Render(
      {{"system", secret}, {"user", " " + secret + "x"}, {"assistant", secret}, {"user", secret}},
      "<s>", "</s>", absl::FromUnixSeconds(1764000000));
  if (!text.ok()) return 0;
  if (source.find('\xF3') != std::string::npos) return 0;
  for (const winnow::TextPart& part : *text) {
    winnow::Require(part.is_client() || part.text.find('\xF3') == std::string::npos);
  }
  return 0;
}
