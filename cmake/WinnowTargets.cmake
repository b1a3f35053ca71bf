# One call per target, so that a folder's CMakeLists.txt reads as a list of what it holds and uses.
include(CMakeParseArguments)

# winnow_library(NAME SOURCES … DEPS …): the static library winnow_NAME of one folder.
function(winnow_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(winnow_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(winnow_${name} PUBLIC ${ARG_DEPS} PRIVATE winnow_compiler_options)
  target_include_directories(winnow_${name} PUBLIC "${CMAKE_SOURCE_DIR}")
endfunction()

# winnow_binary(NAME SOURCES … DEPS …): the program NAME under build/<preset>/bin.
function(winnow_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} winnow_compiler_options)
endfunction()

# `unit_tests` and `tsan_tests` build the tests that have the label, `faultpoint_tests` the programs that those of
# label faultpoint start.
add_custom_target(unit_tests)
add_custom_target(tsan_tests)
add_custom_target(faultpoint_tests DEPENDS winnow winnow-router winnow-prefill-worker winnow-decode-worker)

# Adds the label `fault` to a list of the caller's if docs/reliability.md names the test's file.
if(WINNOW_BUILD_TESTS)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/docs/reliability.md")
  file(READ "${CMAKE_SOURCE_DIR}/docs/reliability.md" WINNOW_RELIABILITY)
endif()
function(winnow_label_fault labels file)
  file(RELATIVE_PATH path "${CMAKE_SOURCE_DIR}" "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
  string(FIND "${WINNOW_RELIABILITY}" "`${path}`" at)
  if(at GREATER -1)
    list(APPEND ${labels} fault)
    list(REMOVE_DUPLICATES ${labels})
    set(${labels} "${${labels}}" PARENT_SCOPE)
  endif()
endfunction()

# winnow_test(NAME SOURCES … DEPS … [LABELS …] [TIMEOUT s]): a GoogleTest program run by ctest, label `unit`
# unless told otherwise. Tests find data through WINNOW_SOURCE_DIR.
function(winnow_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  winnow_label_fault(ARG_LABELS ${name}.cc)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main winnow_compiler_options)
  target_compile_definitions(${name} PRIVATE WINNOW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
  foreach(label ${ARG_LABELS})
    if(TARGET ${label}_tests)
      add_dependencies(${label}_tests ${name})
    endif()
  endforeach()
endfunction()

# winnow_python_test(NAME FILE.py [ARGUMENTS …] [LABELS …] [TIMEOUT s]): a unittest file run by ctest, as winnow_test
# otherwise. Those of label e2e and faultpoint start whole clusters and run alone.
function(winnow_python_test name file)
  cmake_parse_arguments(ARG "" "TIMEOUT" "ARGUMENTS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  winnow_label_fault(ARG_LABELS ${file})
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME ${name} COMMAND Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/${file}" ${ARG_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
                       ENVIRONMENT "WINNOW_BIN_DIR=${CMAKE_BINARY_DIR}/bin;PYTHONDONTWRITEBYTECODE=1")
  if("e2e" IN_LIST ARG_LABELS OR "faultpoint" IN_LIST ARG_LABELS)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()

# winnow_benchmark(NAME SOURCES … DEPS …): a Google Benchmark program.
function(winnow_benchmark name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} benchmark::benchmark winnow_compiler_options)
  target_compile_definitions(${name} PRIVATE WINNOW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
endfunction()
