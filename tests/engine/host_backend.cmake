winnow_test(host_backend_test SOURCES host_backend_test.cc DEPS winnow_engine OpenMP::OpenMP_CXX)
