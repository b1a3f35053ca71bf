# The CUDA Toolkit, with WINNOW_CUDA=ON (preset cuda-release). Machine code for compute capability 8 and 9, and PTX that drivers
# translate for later GPUs; the Hopper kernels for sm_90a only. The CUDA runtime is linked statically, so that a program starts without a driver.
find_program(CUDACXX_PROGRAM nvcc HINTS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin REQUIRED)
set(CMAKE_CUDA_COMPILER "${CUDACXX_PROGRAM}")
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA_STANDARD 20)
find_package(CUDAToolkit REQUIRED)
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} "${CUDAToolkit_LIBRARY_DIR}/../lib" REQUIRED)
set(WINNOW_CUDA_PORTABLE -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=[sm_90,compute_90])
set(WINNOW_CUDA_HOPPER -gencode=arch=compute_90a,code=sm_90a)
