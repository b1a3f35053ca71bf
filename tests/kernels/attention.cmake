foreach(op attention paged_attention select_tokens window_scores)
  winnow_test(${op}_test SOURCES ${op}_test.cc DEPS winnow_kernels OpenMP::OpenMP_CXX)
endforeach()

# The plain loops again as a processor without AVX runs them (kernels/cpu_clones.h). The program's own copy of a file takes
# the place of the library's.
foreach(pair attention:attention_portable select_tokens:select_tokens_cpu window_scores:window_scores_cpu)
  string(REGEX MATCH "(.*):(.*)" _ ${pair})
  set(op ${CMAKE_MATCH_1})
  winnow_test(${op}_baseline_test
    SOURCES ${op}_test.cc "${CMAKE_SOURCE_DIR}/kernels/${CMAKE_MATCH_2}.cc"
    DEPS winnow_kernels OpenMP::OpenMP_CXX)
  target_compile_definitions(${op}_baseline_test PRIVATE WINNOW_NO_CPU_CLONES)
endforeach()
set_tests_properties(attention_baseline_test PROPERTIES ENVIRONMENT "GTEST_FILTER=*portable*")

winnow_test(attention_sm80_test SOURCES attention_sm80_test.cc)
if(WINNOW_CUDA)
  winnow_binary(attention_cuda_check SOURCES attention_cuda_check.cu DEPS winnow_attention_cuda)
  target_compile_options(attention_cuda_check PRIVATE ${WINNOW_CUDA_PORTABLE})
endif()
