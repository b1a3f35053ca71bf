winnow_binary(handoff_bench SOURCES handoff_bench.cc handoff_peers.cc
  DEPS winnow_decode_worker winnow_prefill_worker winnow_engine_ranks winnow_tls_flags winnow_program_flags nlohmann_json::nlohmann_json)
add_dependencies(handoff_bench winnow_commit)
target_include_directories(handoff_bench PRIVATE "${CMAKE_CURRENT_BINARY_DIR}/generated")
target_compile_definitions(handoff_bench PRIVATE WINNOW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
