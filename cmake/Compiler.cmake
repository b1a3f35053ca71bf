# Language level, warnings and sanitizers for every target of ours.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()

add_library(winnow_compiler_options INTERFACE)
target_compile_options(winnow_compiler_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Werror=return-type>
  # GCC 12 sees these where they are not (PR 105562, 105651).
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized -Wno-restrict>)
# And this one in nlohmann::json: for the sources that show it, as their COMPILE_OPTIONS.
set(WINNOW_FALSE_ARRAY_BOUNDS "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-array-bounds>")
target_include_directories(winnow_compiler_options INTERFACE "${CMAKE_SOURCE_DIR}")

if(WINNOW_FAULT_POINTS)
  add_compile_definitions(WINNOW_FAULT_POINTS)
endif()
if(WINNOW_SANITIZE)
  add_compile_options(-fsanitize=${WINNOW_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${WINNOW_SANITIZE})
endif()
