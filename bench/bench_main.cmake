# main of every benchmark, and the machine's peaks. The commit is that of the last configure; the environment variable
# WINNOW_COMMIT overrides it.
winnow_library(bench_main
  SOURCES affinity.cc bench_main.cc peak_flops.cc
  DEPS winnow_kernels benchmark::benchmark OpenMP::OpenMP_CXX Threads::Threads)
execute_process(COMMAND git rev-parse --short=12 HEAD WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
                OUTPUT_VARIABLE commit RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT failed)
  target_compile_definitions(winnow_bench_main PRIVATE WINNOW_COMMIT="${commit}")
endif()
