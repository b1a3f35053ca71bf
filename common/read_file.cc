#include "common/read_file.h"

#include <fstream>
#include <sstream>

namespace winnow {

std::optional<std::string> ReadFile(const std::string& path) {
  const std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace winnow
