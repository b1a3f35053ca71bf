winnow_test(cublas_algorithms_test SOURCES cublas_algorithms_test.cc DEPS winnow_kernels)
foreach(op argmax embedding gated_act gated_matmul gather_rows matmul rms_norm rope)
  winnow_test(${op}_test SOURCES ${op}_test.cc DEPS winnow_kernels)
endforeach()

# The cloned ops again without clones, as a processor without AVX runs them (kernels/cpu_clones.h).
foreach(op argmax gated_act rms_norm rope)
  set(sources "${CMAKE_SOURCE_DIR}/kernels/${op}_cpu.cc" "${CMAKE_SOURCE_DIR}/kernels/${op}_ref.cc")
  winnow_test(${op}_baseline_test SOURCES ${op}_test.cc ${sources} DEPS OpenMP::OpenMP_CXX)
  target_compile_definitions(${op}_baseline_test PRIVATE WINNOW_NO_CPU_CLONES)
endforeach()
