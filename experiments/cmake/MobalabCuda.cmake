# Finds nvcc and sets MOBALAB_HAVE_CUDA. Without it everything but the GPU paths is built.
set(MOBALAB_HAVE_CUDA OFF)
if(NOT MOBALAB_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # wgmma and setmaxnreg need the architecture-specific target.
    set(CMAKE_CUDA_ARCHITECTURES 90a-real)
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)  # after enable_language: CMake 3.25 knows the dialects of nvcc 13 only then
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    find_package(CUDAToolkit REQUIRED)
    set(MOBALAB_HAVE_CUDA ON)
  elseif(MOBALAB_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MOBALAB_CUDA=ON, but nvcc was not found; put nvcc on PATH or use MOBALAB_CUDA=AUTO")
  endif()
endif()
message(STATUS "CUDA backend: ${MOBALAB_HAVE_CUDA}")
