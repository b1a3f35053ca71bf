foreach(op attention paged_attention select_tokens window_scores)
  winnow_test(${op}_test SOURCES ${op}_test.cc DEPS winnow_kernels OpenMP::OpenMP_CXX)
endforeach()
