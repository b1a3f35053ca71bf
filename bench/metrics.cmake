winnow_benchmark(metrics_bench SOURCES metrics_bench.cc
                 DEPS winnow_router winnow_prefill_core winnow_decode_core winnow_bench_main)
