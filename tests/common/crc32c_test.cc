#include "common/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace winnow {
namespace {

// By the definition, a bit at a time.
uint32_t Crc32cOfBits(const unsigned char* data, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? 0x82F63B78u ^ (crc >> 1) : crc >> 1;
  }
  return ~crc;
}

TEST(Crc32cTest, MatchesPublishedVectors) {
  // The check value of the CRC catalogue, and the vectors of RFC 3720, appendix B.4.
  EXPECT_EQ(Crc32c("123456789", 9), 0xE3069283u);
  EXPECT_EQ(Crc32c("", 0), 0u);
  EXPECT_EQ(Crc32c(std::string(32, '\0').data(), 32), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xFF').data(), 32), 0x62A8AB43u);
  std::string ascending(32, '\0');
  for (int i = 0; i < 32; ++i) ascending[i] = static_cast<char>(i);
  EXPECT_EQ(Crc32c(ascending.data(), 32), 0x46DD794Eu);
}

TEST(Crc32cTest, IsRightAtEveryLengthAndAlignment) {
  std::mt19937 random(1);
  std::vector<unsigned char> data(4096 + 16);
  for (auto& byte : data) byte = static_cast<unsigned char>(random());
  for (size_t offset = 0; offset < 9; ++offset) {
    for (size_t size : {0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 4096}) {
      EXPECT_EQ(Crc32c(data.data() + offset, size), Crc32cOfBits(data.data() + offset, size))
          << offset << " " << size;
    }
  }
}

TEST(Crc32cTest, ContinuesFromAnEarlierPart) {
  const std::string text = "a chunk header and then its payload";
  const uint32_t whole = Crc32c(text.data(), text.size());
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(Crc32c(text.data() + cut, text.size() - cut, Crc32c(text.data(), cut)), whole);
  }
}

TEST(Crc32cTest, SeesEverySingleBit) {
  std::string data(100, 'x');
  const uint32_t intact = Crc32c(data.data(), data.size());
  for (size_t bit = 0; bit < data.size() * 8; ++bit) {
    data[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_NE(Crc32c(data.data(), data.size()), intact);
    data[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
}

}  // namespace
}  // namespace winnow
