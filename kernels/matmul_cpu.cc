#include <cpuid.h>
#include <omp.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "dnnl.hpp"
#include "kernels/matmul.h"

namespace winnow {
namespace {

using dnnl::memory;

// Rows for which the weight's layout is chosen: a prefill chunk.
constexpr int64_t kTypicalRows = 1024;
// Primitives kept per weight: one per row count, of which a prefill uses one or two over and over;
// making one costs 0.2–0.6 ms. A single primitive with DNNL_RUNTIME_DIM_VAL rows is no way out:
// with a packed weight, oneDNN 2.6 then takes its reference loops (0.2 instead of 230 GFLOP/s, f32,
// two Zen 4 cores).
constexpr size_t kMaxPrimitives = 16;

memory::data_type TypeOf(DType dtype) {
  return dtype == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// oneDNN reports errors by exceptions; none is expected, and none may leave this file.
template <typename F>
auto OrDie(const char* what, F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const dnnl::error& error) {
    std::fprintf(stderr, "oneDNN: %s: %s\n", what, error.what());
    std::abort();
  }
}

}  // namespace

struct CpuMatmul::Impl {
  // Rows, out_dtype, whether there is a bias, whether it accumulates, threads. A primitive splits
  // its work for the team size at its creation and always asks for it.
  using Key = std::tuple<int64_t, DType, bool, bool, int>;

  explicit Impl(const MatmulWeight& w)
      : dtype(w.dtype), out_features(w.out_features), in_features(w.in_features) {
    const auto any =
        memory::desc({in_features, out_features}, TypeOf(dtype), memory::format_tag::any);
    packed_desc = Describe({kTypicalRows, dtype, false, false, 0}, any).weights_desc();
    // [out][in] row-major is [in][out] column-major.
    const auto plain =
        memory::desc({in_features, out_features}, TypeOf(dtype), memory::format_tag::ba);
    memory from(plain, engine, const_cast<void*>(w.data));
    packed = memory(packed_desc, engine);
    dnnl::reorder(from, packed).execute(stream, from, packed);
    stream.wait();
  }

  dnnl::matmul::primitive_desc Describe(const Key& key, const memory::desc& weights) const {
    const auto [rows, out_dtype, has_bias, accumulates, threads] = key;
    const memory::desc x({rows, in_features}, TypeOf(dtype), memory::format_tag::ab);
    const memory::desc out({rows, out_features}, TypeOf(out_dtype), memory::format_tag::ab);
    dnnl::primitive_attr attr;
    attr.set_fpmath_mode(
        dnnl::fpmath_mode::strict);  // f32 stays f32, whatever the environment asks for
    // oneDNN's own scratchpad belongs to the thread that creates a primitive; ours goes where the
    // weight goes.
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (accumulates) {
      dnnl::post_ops sum;
      sum.append_sum();
      attr.set_post_ops(sum);
    }
    if (!has_bias) return {dnnl::matmul::desc(x, weights, out), attr, engine};
    return {dnnl::matmul::desc(x, weights, BiasDesc(), out), attr, engine};
  }

  memory::desc BiasDesc() const {
    return {{1, out_features}, TypeOf(dtype), memory::format_tag::ab};
  }

  // oneDNN's fast matmul wants dense rows; for others it takes its reference loops, so the copy
  // pays at any size.
  const void* Dense(const MatmulParams& p) {
    if (p.x_stride == in_features || p.rows == 1) return p.x;
    const int64_t element = ElementSize(dtype), row_bytes = in_features * element;
    dense_x.resize(p.rows * row_bytes);
    const auto* from = static_cast<const std::byte*>(p.x);
#pragma omp parallel for if (p.rows >= 256)
    for (int64_t i = 0; i < p.rows; ++i) {
      std::memcpy(dense_x.data() + i * row_bytes, from + i * p.x_stride * element, row_bytes);
    }
    return dense_x.data();
  }

  struct Cached {
    Key key;
    memory::desc x, out;
    memory scratchpad;
    dnnl::matmul primitive;
  };
  // Most recently used first.
  Cached& Find(const Key& key) {
    for (auto it = cache.begin(); it != cache.end(); ++it) {
      if (it->key != key) continue;
      cache.splice(cache.begin(), cache, it);
      return cache.front();
    }
    const auto pd = Describe(key, packed_desc);
    cache.push_front({key, pd.src_desc(), pd.dst_desc(), memory(pd.scratchpad_desc(), engine),
                      dnnl::matmul(pd)});
    if (cache.size() > kMaxPrimitives) cache.pop_back();
    return cache.front();
  }

  const DType dtype;
  const int64_t out_features, in_features;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  memory::desc packed_desc;
  memory packed;
  std::list<Cached> cache;
  std::vector<std::byte> dense_x;
};

CpuMatmul::CpuMatmul(const MatmulWeight& w)
    : impl_(OrDie("pack", [&] { return std::make_unique<Impl>(w); })) {}
CpuMatmul::~CpuMatmul() = default;

void CpuMatmul::Run(const MatmulParams& p) {
  if (p.rows == 0) return;
  OrDie("matmul", [&] {
    const bool has_bias = p.bias != nullptr;
    Impl::Cached& cached =
        impl_->Find({p.rows, p.out_dtype, has_bias, p.accumulate, omp_get_max_threads()});
    memory x(cached.x, impl_->engine, const_cast<void*>(impl_->Dense(p)));
    memory out(cached.out, impl_->engine, p.out);
    std::unordered_map<int, memory> arguments = {{DNNL_ARG_SRC, x},
                                                 {DNNL_ARG_WEIGHTS, impl_->packed},
                                                 {DNNL_ARG_DST, out},
                                                 {DNNL_ARG_SCRATCHPAD, cached.scratchpad}};
    if (has_bias) {
      arguments[DNNL_ARG_BIAS] =
          memory(impl_->BiasDesc(), impl_->engine, const_cast<void*>(p.bias));
    }
    cached.primitive.execute(impl_->stream, arguments);
    impl_->stream.wait();
  });
}

int64_t CpuMatmul::out_features() const { return impl_->out_features; }
int64_t CpuMatmul::in_features() const { return impl_->in_features; }

bool CpuHasBf16() {
  unsigned eax, ebx, ecx, edx;
  const bool avx512_bf16 = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 5));
  const bool amx_bf16 = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & (1u << 22));
  return __builtin_cpu_supports("avx512f") && (avx512_bf16 || amx_bf16);
}

}  // namespace winnow
