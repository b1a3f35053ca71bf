#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace winnow {

// A tiny model of tests/golden/models and what Hugging Face transformers makes of a prompt.
struct ModelPrompt {
  std::vector<int32_t> ids, argmax, generated;
  std::vector<float> logits;  // of the last position
};
const std::vector<std::string>& GoldenModels();  // their names
std::string GoldenModelFolder(const std::string& name);
// Tensor-parallel sizes of 1 to 4 that the model can be split into; expects more than one.
std::vector<int> GoldenSplits(const std::string& name);
std::vector<ModelPrompt> LoadModelPrompts(const std::string& name);

int32_t ArgMax(const std::vector<float>& values);
double Cosine(const std::vector<float>& a, const std::vector<float>& b);
// Both expect equal sizes.
double MaxDifference(const std::vector<float>& a, const std::vector<float>& b);
// The largest difference over the largest expected magnitude.
double RelativeDifference(const std::vector<float>& got, const std::vector<float>& expected);

}  // namespace winnow
