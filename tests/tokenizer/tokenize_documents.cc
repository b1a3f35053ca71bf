// tokenize_documents MODEL_DIR < DOCUMENTS > RESULT
//
// For comparing with other tokenizers. DOCUMENTS is a JSON list of texts. RESULT is one JSON
// object: ids (a list for each text, special tokens parsed, nothing added), text (what the ids
// decode to, special tokens left out, invalid bytes as U+FFFD), seconds (encoding alone, one
// thread, best of three), chat_suffix_tokens (window_offset of chats).

#include <algorithm>
#include <chrono>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

namespace {

using Json = nlohmann::json;

std::string Decode(const winnow::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  winnow::StreamDecoder decoder(tokenizer);
  std::string text;
  for (int32_t id : ids) text += decoder.Add(id);
  return text + decoder.Flush();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenize_documents MODEL_DIR < DOCUMENTS > RESULT\n";
    return 2;
  }
  const auto tokenizer = winnow::Tokenizer::Create(argv[1]);
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status() << "\n";
    return 1;
  }
  const Json documents = Json::parse(std::cin, nullptr, /*allow_exceptions=*/false);
  if (!documents.is_array()) {
    std::cerr << "standard input: expected a JSON list of texts\n";
    return 2;
  }
  const auto texts = documents.get<std::vector<std::string>>();
  double seconds = 0;
  std::vector<std::vector<int32_t>> ids(texts.size());
  for (int repeat = 0; repeat < 3; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    for (size_t i = 0; i < texts.size(); ++i) {
      auto encoded = (*tokenizer)->EncodeRaw(texts[i]);
      if (!encoded.ok()) {
        std::cerr << "document " << i << ": " << encoded.status() << "\n";
        return 1;
      }
      ids[i] = *std::move(encoded);
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    seconds = repeat == 0 ? taken.count() : std::min(seconds, taken.count());
  }
  Json text = Json::array();
  for (const auto& list : ids) text.push_back(Decode(**tokenizer, list));
  std::cout << Json{{"ids", ids},
                    {"text", text},
                    {"seconds", seconds},
                    {"chat_suffix_tokens", (*tokenizer)->chat_suffix_tokens()}}
            << "\n";
  return std::cout.good() ? 0 : 1;
}
