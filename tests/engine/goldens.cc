#include "tests/engine/goldens.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "checkpoint/model_config.h"
#include "checkpoint/shard_plan.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace winnow {

const std::vector<std::string>& GoldenModels() {
  static const std::vector<std::string> names = {
      "llama2",       "llama3",       "llama3_1",     "llama3_2", "llama_linear",
      "mistral_v0_1", "mistral_v0_3", "mistral_nemo", "qwen2",    "qwen2_5_tied",
      "qwen2_yarn",   "qwen3",        "qwen3_tied"};
  return names;
}

std::string GoldenModelFolder(const std::string& name) {
  return std::string(WINNOW_SOURCE_DIR) + "/tests/golden/models/" + name;
}

std::vector<int> GoldenSplits(const std::string& name) {
  const auto config = LoadModelConfig(GoldenModelFolder(name));
  EXPECT_TRUE(config.ok()) << config.status();
  std::vector<int> splits;
  for (const int size : {1, 2, 3, 4}) {
    if (MakeShardPlan(config->shape, size, 0).ok()) splits.push_back(size);
  }
  EXPECT_GE(splits.size(), 2u) << "only T = 1";
  return splits;
}

std::vector<ModelPrompt> LoadModelPrompts(const std::string& name) {
  std::ifstream file(GoldenModelFolder(name) + "/golden.json");
  std::vector<ModelPrompt> prompts;
  const auto golden = nlohmann::json::parse(file);
  for (const auto& json : golden["prompts"]) {
    prompts.push_back({json["ids"], json["argmax"], json["generated"], json["logits"]});
  }
  return prompts;
}

int32_t ArgMax(const std::vector<float>& values) {
  return static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return ab / std::sqrt(aa * bb);
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    worst = std::max<double>(worst, std::abs(a[i] - b[i]));
  }
  return worst;
}

double RelativeDifference(const std::vector<float>& got, const std::vector<float>& expected) {
  double largest = 0;
  for (const float x : expected) largest = std::max<double>(largest, std::abs(x));
  return MaxDifference(got, expected) / largest;
}

}  // namespace winnow
