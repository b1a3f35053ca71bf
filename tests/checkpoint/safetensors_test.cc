#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "tests/checkpoint/temp_folder.h"

namespace winnow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string Length(uint64_t value) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (8 * i));
  return out;
}

std::string File(const std::string& header, const std::string& data) {
  return Length(header.size()) + header + data;
}

std::string Entry(const std::string& dtype, const Json& shape, uint64_t begin, uint64_t end) {
  return Json{{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}}.dump();
}

// Two tensors: a, four floats; b, two bf16.
std::string SmallHeader() {
  return R"({"__metadata__":{"format":"pt"},"a":)" + Entry("F32", {2, 2}, 0, 16) + R"(,"b":)" +
         Entry("BF16", {2}, 16, 20) + "}";
}
const std::string kSmallData = "0123456789abcdefWXYZ";

void ExpectRefused(const TempFolder& folder, absl::StatusCode code, const std::string& file,
                   const std::string& text) {
  const auto opened = Checkpoint::Open(folder.path());
  ASSERT_FALSE(opened.ok()) << "accepted; expected: " << text;
  EXPECT_EQ(opened.status().code(), code);
  EXPECT_THAT(std::string(opened.status().message()), AllOf(HasSubstr(file), HasSubstr(text)));
}

// Refused as the only file of a folder.
void ExpectBadFile(const std::string& bytes, const std::string& text) {
  const TempFolder folder;
  folder.Write("model.safetensors", bytes);
  ExpectRefused(folder, absl::StatusCode::kInvalidArgument, "model.safetensors: ", text);
}

TEST(CheckpointTest, ReadsASingleFile) {
  const TempFolder folder;
  folder.Write("model.safetensors", File(SmallHeader(), kSmallData));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->tensors().size(), 2u);
  EXPECT_EQ((*checkpoint)->total_bytes(), 20);
  const auto b = (*checkpoint)->Find("b", {2});
  ASSERT_TRUE(b.ok()) << b.status();
  const auto data = (*checkpoint)->Data(**b);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), data.size()), "WXYZ");
}

TEST(CheckpointTest, FindNamesTensorAndShapes) {
  const TempFolder folder;
  folder.Write("model.safetensors", File(SmallHeader(), kSmallData));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::Status absent = (*checkpoint)->Find("c", {2}).status();
  EXPECT_EQ(absent.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(absent.message()), HasSubstr("'c'"));
  const absl::Status shape = (*checkpoint)->Find("a", {4}).status();
  EXPECT_EQ(shape.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(shape.message()), HasSubstr("'a' must have shape [4], got [2, 2]"));
}

TEST(CheckpointTest, AcceptsScalarsAndEmptyTensors) {
  const TempFolder folder;
  folder.Write("model.safetensors", File(R"({"s":)" + Entry("F32", Json::array(), 0, 4) +
                                             R"(,"e":)" + Entry("F16", {0, 7}, 4, 4) + "}   ",
                                         "abcd"));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE((*checkpoint)->Find("s", {}).ok());
  EXPECT_EQ((*checkpoint)->Data(**(*checkpoint)->Find("e", {0, 7})).size(), 0u);
}

TEST(CheckpointTest, RefusesFilesWhoseHeaderIsNotThere) {
  ExpectBadFile("", "truncated");
  ExpectBadFile("1234567", "truncated");
  ExpectBadFile(Length(100) + "{}", "header of 100 bytes in a file with 2");
  ExpectBadFile(Length(100'000'001) + "{}",
                "header of 100000001 bytes, expected at most 100000000");
  ExpectBadFile(Length(~uint64_t{0}) + "{}", "header of 18446744073709551615 bytes");
}

TEST(CheckpointTest, RefusesHeadersThatAreNotTensorLists) {
  ExpectBadFile(File("{\"a\":", ""), "not valid JSON");
  ExpectBadFile(File("", ""), "not valid JSON");
  ExpectBadFile(File("[]", ""), "not a JSON object");
  ExpectBadFile(File(R"({"a":3})", ""), "tensor 'a' is not described by an object");
  ExpectBadFile(File(R"({"a":{}})", ""), "tensor 'a' has no dtype");
  ExpectBadFile(File(R"({"a":{"dtype":"F32"}})", ""), "tensor 'a' has no shape");
  ExpectBadFile(File(R"({"a":{"dtype":"F32","shape":[-1]}})", ""),
                "tensor 'a' has no shape of non-negative");
  ExpectBadFile(File(R"({"a":{"dtype":"F32","shape":[1.5]}})", ""),
                "tensor 'a' has no shape of non-negative");
  ExpectBadFile(File(R"({"a":{"dtype":"F32","shape":[1]}})", "abcd"),
                "tensor 'a' has no data_offsets");
  ExpectBadFile(File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "abcd"),
                "has no data_offsets");
  ExpectBadFile(File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", "abcd"),
                "has no data_offsets");
}

TEST(CheckpointTest, RefusesUnknownDtypes) {
  ExpectBadFile(File(R"({"a":)" + Entry("F4", {2}, 0, 1) + "}", "x"),
                "tensor 'a' has unknown dtype 'F4'");
}

TEST(CheckpointTest, RefusesOffsetsOutsideTheFile) {
  const std::string header = SmallHeader();
  ExpectBadFile(File(header, kSmallData.substr(0, 19)),
                "tensor 'b' lies at [16, 20) but the file has 19");
  ExpectBadFile(File(R"({"a":)" + Entry("F32", {1}, 4, 0) + "}", "abcd"),
                "tensor 'a' lies at [4, 0)");
}

TEST(CheckpointTest, RefusesByteCountsThatContradictTheShape) {
  ExpectBadFile(File(R"({"a":)" + Entry("F32", {2}, 0, 4) + "}", "abcd"),
                "tensor 'a' of F32 [2] needs 8 bytes, got 4");
}

TEST(CheckpointTest, RefusesShapesWhoseSizeOverflows) {
  ExpectBadFile(File(R"({"a":)" + Entry("F32", {uint64_t{1} << 62, 4}, 0, 0) + "}", ""),
                "whose size overflows");
  ExpectBadFile(File(R"({"a":)" + Entry("U8", {~uint64_t{0}}, 0, 0) + "}", ""),
                "whose size overflows");
}

TEST(CheckpointTest, RefusesOverlappingTensors) {
  const std::string header =
      R"({"a":)" + Entry("F32", {2}, 0, 8) + R"(,"b":)" + Entry("F32", {1}, 4, 8) + "}";
  ExpectBadFile(File(header, "01234567"), "tensors 'a' and 'b' overlap");
}

TEST(CheckpointTest, RefusesANameThatStandsTwiceInAHeader) {
  const std::string header =
      R"({"a":)" + Entry("F32", {1}, 0, 4) + R"(,"a":)" + Entry("F32", {1}, 4, 8) + "}";
  ExpectBadFile(File(header, "01234567"), "tensor 'a' is named twice");
}

// Two shards, x.safetensors with a, y.safetensors with b, and an index of `weight_map`.
void WriteShards(const TempFolder& folder, const Json& weight_map,
                 const std::string& name_in_y = "b") {
  folder.Write("x.safetensors", File(R"({"a":)" + Entry("F32", {1}, 0, 4) + "}", "aaaa"));
  folder.Write("y.safetensors",
               File("{\"" + name_in_y + "\":" + Entry("F32", {1}, 0, 4) + "}", "bbbb"));
  folder.Write("model.safetensors.index.json", Json{{"weight_map", weight_map}}.dump());
}

TEST(CheckpointTest, ReadsShardsThroughTheirIndex) {
  const TempFolder folder;
  WriteShards(folder, {{"a", "x.safetensors"}, {"b", "y.safetensors"}});
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto data = (*checkpoint)->Data(**(*checkpoint)->Find("b", {1}));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), data.size()), "bbbb");
}

TEST(CheckpointTest, RefusesAnIndexThatNamesAnAbsentFile) {
  const TempFolder folder;
  WriteShards(folder, {{"a", "x.safetensors"}, {"b", "z.safetensors"}});
  ExpectRefused(folder, absl::StatusCode::kNotFound, "z.safetensors", "cannot open");
}

TEST(CheckpointTest, RefusesAnIndexThatNamesATensorTheShardLacks) {
  const TempFolder folder;
  WriteShards(folder, {{"a", "x.safetensors"}, {"b", "y.safetensors"}, {"c", "y.safetensors"}});
  ExpectRefused(folder, absl::StatusCode::kInvalidArgument, "index.json",
                "tensor 'c' should be in y.safetensors");
  WriteShards(folder, {{"a", "y.safetensors"}, {"b", "x.safetensors"}});
  ExpectRefused(folder, absl::StatusCode::kInvalidArgument, "index.json",
                "tensor 'a' should be in y.safetensors");
}

TEST(CheckpointTest, RefusesATensorInTwoShards) {
  const TempFolder folder;
  WriteShards(folder, {{"a", "x.safetensors"}, {"b", "y.safetensors"}}, /*name_in_y=*/"a");
  ExpectRefused(folder, absl::StatusCode::kInvalidArgument, "y.safetensors",
                "tensor 'a' is named twice, also in ");
}

TEST(CheckpointTest, RefusesAnIndexThatLeavesTheFolder) {
  const TempFolder folder;
  for (const Json& file : std::vector<Json>{"../x.safetensors", "/etc/passwd", "..", "", 3}) {
    WriteShards(folder, {{"a", file}});
    ExpectRefused(folder, absl::StatusCode::kInvalidArgument, "index.json",
                  "tensor 'a' must name a file");
  }
}

TEST(CheckpointTest, RefusesAnIndexWithoutEntries) {
  const TempFolder folder;
  WriteShards(folder, Json::object());
  ExpectRefused(folder, absl::StatusCode::kInvalidArgument, "index.json", "no weight_map");
  folder.Write("model.safetensors.index.json", "{");
  ExpectRefused(folder, absl::StatusCode::kInvalidArgument, "index.json", "not valid JSON");
}

TEST(CheckpointTest, RefusesAFolderWithoutCheckpoint) {
  const TempFolder folder;
  ExpectRefused(folder, absl::StatusCode::kNotFound, folder.path(),
                "neither model.safetensors nor");
}

std::string RevisionOf(const TempFolder& folder) {
  const auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? (*checkpoint)->revision() : "";
}

TEST(RevisionTest, DependsOnTensorsButNotOnFiles) {
  const TempFolder folder;
  WriteShards(folder, {{"a", "x.safetensors"}, {"b", "y.safetensors"}});
  const std::string sharded = RevisionOf(folder);
  EXPECT_EQ(sharded.size(), 32u);
  const std::string header =
      R"({"b":)" + Entry("F32", {1}, 0, 4) + R"(,"a":)" + Entry("F32", {1}, 4, 8) + "}";
  folder.Write("model.safetensors", File(header, "bbbbaaaa"));
  EXPECT_EQ(RevisionOf(folder), sharded);
  folder.Write("model.safetensors", File(header, "bbbbaaac"));
  EXPECT_NE(RevisionOf(folder), sharded);
}

TEST(RevisionTest, SeesNameDtypeAndShape) {
  const TempFolder folder;
  std::set<std::string> revisions;
  for (const std::string& header :
       {R"({"a":)" + Entry("F32", {2}, 0, 8) + "}", R"({"b":)" + Entry("F32", {2}, 0, 8) + "}",
        R"({"a":)" + Entry("I32", {2}, 0, 8) + "}",
        R"({"a":)" + Entry("F32", {1, 2}, 0, 8) + "}"}) {
    folder.Write("model.safetensors", File(header, "01234567"));
    revisions.insert(RevisionOf(folder));
  }
  EXPECT_EQ(revisions.size(), 4u);
}

TEST(RevisionTest, OfTheDemoModelIsFixed) {
  const auto checkpoint = Checkpoint::Open(WINNOW_SOURCE_DIR "/models/demo");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->tensors().size(), 110u);
  EXPECT_EQ((*checkpoint)->total_bytes(), 18'625'024);
  EXPECT_TRUE((*checkpoint)->Find("model.embed_tokens.weight", {4096, 256}).ok());
  EXPECT_EQ((*checkpoint)->revision(), "ad0e9334a014e5ec397c11ab86b0e149");
}

}  // namespace
}  // namespace winnow
