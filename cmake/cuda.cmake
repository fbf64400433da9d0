# CUDA as a language of the project.
set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "GPUs to build for: 90a (Hopper), or a list of 80, 86, 89, 90a, 100")

if(LORC_SANITIZE)
  message(FATAL_ERROR "LORC_ENABLE_CUDA and LORC_SANITIZE exclude each other: nvcc knows no sanitizers")
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "LORC_ENABLE_CUDA is ON, but there is no CUDA compiler: install the CUDA toolkit (13.0) and "
    "put nvcc on the PATH, or set CUDACXX to it")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# CMake before 3.26 does not know nvcc's C++20.
if(CMAKE_VERSION VERSION_LESS 3.26)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_COMPILE_FEATURES cuda_std_20)
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(CCACHE_PROGRAM)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
