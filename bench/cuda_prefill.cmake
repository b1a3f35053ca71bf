if(WINNOW_CUDA)
  winnow_binary(tune_matmul SOURCES tune_matmul.cc DEPS winnow_checkpoint winnow_kernels winnow_kernels_cuda)
  target_compile_definitions(tune_matmul PRIVATE WINNOW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  winnow_binary(cuda_prefill_bench
    SOURCES cuda_prefill_bench.cc DEPS winnow_engine winnow_engine_cuda nlohmann_json::nlohmann_json)
  add_dependencies(cuda_prefill_bench winnow_commit)
  target_include_directories(cuda_prefill_bench PRIVATE "${CMAKE_CURRENT_BINARY_DIR}/generated")
  target_compile_definitions(cuda_prefill_bench PRIVATE WINNOW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
endif()
