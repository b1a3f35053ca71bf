#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/fast_exp.h"
#include "kernels/window_scores.h"

namespace winnow {
namespace {

constexpr int64_t kKeys = 512;  // keys per unit of parallel work

float Dot(const float* a, const float* b, int size) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int c = 0; c < size; ++c) sum += a[c] * b[c];
  return sum;
}

// One KV head: the scaled products of its group's window rows with all keys, [group·W][E + W]; W·N floats are nothing on the
// CPU. Then softmax, sum, pooling.
template <typename T>
class HeadScores {
 public:
  HeadScores(const WindowScoresParams& p, int kv_head)
      : p_(p), kv_head_(kv_head), group_(p.q_heads / p.kv_heads), rows_(group_ * p.window),
        keys_(p.window_begin + p.window), products_(rows_ * keys_) {}

  void Run() {
    Multiply();
    Normalise();
    Pool();
  }

 private:
  void Multiply() {
    const T* q = static_cast<const T*>(p_.q) + int64_t{kv_head_} * rows_ * p_.head_dim;
    const T* k = static_cast<const T*>(p_.k) + kv_head_ * p_.capacity * p_.head_dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(p_.head_dim));
    std::vector<float> queries(rows_ * p_.head_dim);
    for (size_t i = 0; i < queries.size(); ++i) queries[i] = ToFloat(q[i]) * scale;
#pragma omp parallel for
    for (int64_t begin = 0; begin < keys_; begin += kKeys) {
      const int64_t end = std::min(keys_, begin + kKeys);
      std::vector<float> key(p_.head_dim);
      for (int64_t j = begin; j < end; ++j) {
        for (int c = 0; c < p_.head_dim; ++c) key[c] = ToFloat(k[j * p_.head_dim + c]);
        for (int r = 0; r < rows_; ++r) {
          products_[r * keys_ + j] = Dot(queries.data() + r * p_.head_dim, key.data(), p_.head_dim);
        }
      }
    }
  }

  // Each row becomes its softmax over what it sees; only columns below E matter from here on.
  void Normalise() {
#pragma omp parallel for
    for (int r = 0; r < rows_; ++r) {
      float* row = products_.data() + r * keys_;
      const int64_t visible = p_.window_begin + r % p_.window + 1;
      float highest = row[0];
      for (int64_t j = 1; j < visible; ++j) highest = std::max(highest, row[j]);
      double sum = 0.0;
      for (int64_t j = 0; j < visible; ++j) sum += row[j] = FastExp(row[j] - highest);
      const auto inverse = static_cast<float>(1.0 / sum);
      for (int64_t j = 0; j < p_.window_begin; ++j) row[j] *= inverse;
    }
  }

  // Sums the W rows of each head, pools, and sums the group's heads, head by head as the reference does.
  void Pool() {
    const int64_t count = p_.window_begin;
    const int64_t reach = (p_.pool_kernel - 1) / 2;
    float* scores = p_.scores + kv_head_ * count;
    std::fill(scores, scores + count, 0.0f);
    std::vector<float> a(count);
    for (int g = 0; g < group_; ++g) {
      std::fill(a.begin(), a.end(), 0.0f);
      for (int i = 0; i < p_.window; ++i) {
        const float* row = products_.data() + (g * p_.window + i) * keys_;
        for (int64_t j = 0; j < count; ++j) a[j] += row[j];
      }
      for (int64_t j = 0; j < count; ++j) {
        float sum = 0.0f;
        for (int64_t t = std::max<int64_t>(0, j - reach); t <= std::min(count - 1, j + reach); ++t) sum += a[t];
        scores[j] += sum / static_cast<float>(p_.pool_kernel);
      }
    }
  }

  const WindowScoresParams& p_;
  const int kv_head_, group_, rows_;
  const int64_t keys_;
  std::vector<float> products_;
};

template <typename T>
void Run(const WindowScoresParams& p) {
  for (int kv_head = 0; kv_head < p.kv_heads; ++kv_head) HeadScores<T>(p, kv_head).Run();
}

}  // namespace

void WindowScoresCpu(const WindowScoresParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
