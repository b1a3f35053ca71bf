winnow_test(paged_kv_test SOURCES paged_kv_test.cc DEPS winnow_engine LABELS unit tsan)
winnow_test(sampler_test SOURCES sampler_test.cc DEPS winnow_engine)
winnow_test(decode_engine_test SOURCES decode_engine_test.cc DEPS winnow_prefill_fixture)
