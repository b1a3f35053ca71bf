winnow_test(comm_test SOURCES comm_test.cc DEPS winnow_engine LABELS unit tsan)
