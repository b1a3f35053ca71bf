// render_template TEMPLATE < CONVERSATIONS > RESULTS
//
// For comparing with Jinja. CONVERSATIONS is a JSON list of lists of {role, content}. RESULTS is a
// JSON list: {"text"} with every client's part in U+0001 … U+0002, or {"error"}. bos_token is
// <BOS>, eos_token <EOS>, the time 2026-03-04 05:06:07 UTC.

#include <fstream>
#include <iostream>
#include <sstream>

#include "nlohmann/json.hpp"
#include "tokenizer/chat_template.h"

namespace {

using Json = nlohmann::json;

Json Render(const winnow::ChatTemplate& chat_template, const Json& conversation) {
  std::vector<winnow::ChatTurn> turns;
  for (const Json& message : conversation) {
    turns.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  }
  const absl::Time now =
      absl::FromCivil(absl::CivilSecond(2026, 3, 4, 5, 6, 7), absl::UTCTimeZone());
  const auto text = chat_template.Render(turns, "<BOS>", "<EOS>", now);
  if (!text.ok()) return {{"error", text.status().ToString()}};
  std::string marked;
  for (const winnow::TextPart& part : *text) {
    marked += part.is_client() ? "\x01" + part.text + "\x02" : part.text;
  }
  return {{"text", marked}};
}

}  // namespace

int main(int argc, char** argv) {
  std::ifstream file(argc == 2 ? argv[1] : "");
  if (!file) {
    std::cerr << "usage: render_template TEMPLATE < CONVERSATIONS > RESULTS\n";
    return 2;
  }
  std::stringstream source;
  source << file.rdbuf();
  const auto chat_template = winnow::ChatTemplate::Create(source.str());
  if (!chat_template.ok()) {
    std::cerr << chat_template.status() << "\n";
    return 1;
  }
  Json results = Json::array();
  for (const Json& conversation : Json::parse(std::cin)) {
    results.push_back(Render(*chat_template, conversation));
  }
  std::cout << results << "\n";
  return 0;
}
