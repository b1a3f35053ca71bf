#include <cpuid.h>

#include <cstdio>
#include <cstdlib>
#include <list>
#include <tuple>

#include "dnnl.hpp"
#include "kernels/matmul.h"

namespace winnow {
namespace {

using dnnl::memory;

// Rows for which the weight's layout is chosen: a prefill chunk.
constexpr int64_t kTypicalRows = 1024;
// Primitives kept per weight. A prefill uses one or two row counts over and over; creating one costs about a millisecond.
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
  using Key = std::tuple<int64_t, int64_t, DType>;  // rows, x_stride, out_dtype

  explicit Impl(const MatmulWeight& w) : dtype(w.dtype), out_features(w.out_features), in_features(w.in_features) {
    const auto any = memory::desc({in_features, out_features}, TypeOf(dtype), memory::format_tag::any);
    packed_desc = Describe(kTypicalRows, in_features, dtype, any).weights_desc();
    // [out][in] row-major is [in][out] column-major.
    const auto plain = memory::desc({in_features, out_features}, TypeOf(dtype), memory::format_tag::ba);
    memory from(plain, engine, const_cast<void*>(w.data));
    packed = memory(packed_desc, engine);
    dnnl::reorder(from, packed).execute(stream, from, packed);
    stream.wait();
  }

  dnnl::matmul::primitive_desc Describe(int64_t rows, int64_t x_stride, DType out_dtype,
                                        const memory::desc& weights) const {
    const memory::desc x({rows, in_features}, TypeOf(dtype), memory::dims{x_stride, 1});
    const memory::desc out({rows, out_features}, TypeOf(out_dtype), memory::format_tag::ab);
    return {dnnl::matmul::desc(x, weights, out), engine};
  }

  struct Cached {
    Key key;
    memory::desc x, out;
    dnnl::matmul primitive;
  };
  // Most recently used first.
  Cached& Find(const Key& key) {
    for (auto it = cache.begin(); it != cache.end(); ++it) {
      if (it->key != key) continue;
      cache.splice(cache.begin(), cache, it);
      return cache.front();
    }
    const auto pd = Describe(std::get<0>(key), std::get<1>(key), std::get<2>(key), packed_desc);
    cache.push_front({key, pd.src_desc(), pd.dst_desc(), dnnl::matmul(pd)});
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
};

CpuMatmul::CpuMatmul(const MatmulWeight& w) : impl_(OrDie("pack", [&] { return std::make_unique<Impl>(w); })) {}
CpuMatmul::~CpuMatmul() = default;

void CpuMatmul::Run(const MatmulParams& p) {
  if (p.rows == 0) return;
  OrDie("matmul", [&] {
    Impl::Cached& cached = impl_->Find({p.rows, p.x_stride, p.out_dtype});
    memory x(cached.x, impl_->engine, const_cast<void*>(p.x));
    memory out(cached.out, impl_->engine, p.out);
    cached.primitive.execute(impl_->stream,
                             {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, impl_->packed}, {DNNL_ARG_DST, out}});
    impl_->stream.wait();
  });
}

int64_t CpuMatmul::out_features() const { return impl_->out_features; }
int64_t CpuMatmul::in_features() const { return impl_->in_features; }
int64_t CpuMatmul::packed_bytes() const { return static_cast<int64_t>(impl_->packed_desc.get_size()); }

bool CpuHasBf16() {
  unsigned eax, ebx, ecx, edx;
  const bool avx512_bf16 = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 5));
  const bool amx_bf16 = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & (1u << 22));
  return __builtin_cpu_supports("avx512f") && (avx512_bf16 || amx_bf16);
}

}  // namespace winnow
