#pragma once

// WINNOW_CPU_CLONES before a function: it is compiled for AVX-512 (x86-64-v4), AVX2 with FMA
// (x86-64-v3) and the baseline, and the loader picks by the processor, so that one binary is fast
// here and still runs elsewhere. For row functions that OpenMP loops call: the body of a parallel
// region itself would not be cloned. Not with ThreadSanitizer, whose instrumented resolvers run
// before its runtime is up and crash; nor with WINNOW_NO_CPU_CLONES, by which tests reach the
// levels that the processor would not choose.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__) && !defined(WINNOW_NO_CPU_CLONES)
#define WINNOW_CPU_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WINNOW_CPU_CLONES
#endif
