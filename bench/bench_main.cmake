# main of every benchmark, and the machine's peaks. The commit is that of the build; the environment variable WINNOW_COMMIT
# overrides it.
winnow_library(bench_main
  SOURCES affinity.cc bench_main.cc peak_flops.cc
  DEPS winnow_kernels benchmark::benchmark OpenMP::OpenMP_CXX Threads::Threads)
set(generated "${CMAKE_CURRENT_BINARY_DIR}/generated")
add_custom_target(winnow_commit
  COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${CMAKE_SOURCE_DIR} -DOUT=${generated}/bench/commit.h
          -P "${CMAKE_SOURCE_DIR}/cmake/write_commit.cmake"
  BYPRODUCTS "${generated}/bench/commit.h" COMMENT "Commit of this build")
add_dependencies(winnow_bench_main winnow_commit)
target_include_directories(winnow_bench_main PRIVATE "${generated}")
