winnow_test(kv_staging_test SOURCES kv_staging_test.cc DEPS winnow_engine)
