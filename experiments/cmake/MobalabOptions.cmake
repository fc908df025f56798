# One interface target that every target of the project links: warnings, instruction set, sanitizers.
add_library(mobalab_options INTERFACE)
target_include_directories(mobalab_options INTERFACE ${PROJECT_SOURCE_DIR})

# -ffp-contract=off: the same sources give the same bits on every instruction set (samplers are promised reproducible);
# where a fused multiply-add is wanted the code says std::fma.
set(werror "")
set(mobalab_cuda_werror "")
if(MOBALAB_WERROR)
  set(werror -Werror)
  set(mobalab_cuda_werror --Werror=all-warnings)
endif()
set(cxx_flags -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual ${werror}
    -ffp-contract=off -fno-math-errno)
if(MOBALAB_NATIVE)
  list(APPEND cxx_flags -march=native)
endif()

# The address sanitizer sees null pointers and whatever lies outside an object: the undefined-behaviour sanitizer's own
# checks for these, one at every access, took a third of the time of a sanitized build, and those of alignment and of
# pointer arithmetic half of what was left.
set(address_flags -fsanitize=address,undefined -fno-sanitize=null,object-size,vptr,alignment,pointer-overflow
    -fno-sanitize-recover=all)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Frames on the heap, to see uses after a return, are not aligned for AVX-512: g++ 14's programs crash in them (GCC bug
  # 110027), and g++ 12's never used them.
  list(APPEND address_flags --param=asan-use-after-return=0)
endif()
if(MOBALAB_SANITIZE STREQUAL "address")
  set(sanitize_flags ${address_flags} -fno-omit-frame-pointer)
elseif(MOBALAB_SANITIZE STREQUAL "thread")
  set(sanitize_flags -fsanitize=thread -fno-omit-frame-pointer)
elseif(MOBALAB_SANITIZE)
  message(FATAL_ERROR "MOBALAB_SANITIZE=${MOBALAB_SANITIZE}: must be empty, address or thread")
endif()

if(MOBALAB_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "MOBALAB_FUZZ=ON, but the compiler is ${CMAKE_CXX_COMPILER_ID}; use clang++")
  endif()
  list(APPEND sanitize_flags ${address_flags} -fsanitize=fuzzer-no-link)
endif()

# What is tested is checked for undefined behaviour; the test programs around it (property MOBALAB_TEST) are checked for
# addresses alone, since the checks of all their comparisons took two fifths of the time of a sanitized build.
set(test_flags "")
if(MOBALAB_SANITIZE STREQUAL "address")
  set(test_flags "$<$<BOOL:$<TARGET_PROPERTY:MOBALAB_TEST>>:-fno-sanitize=undefined>")
endif()
target_compile_options(mobalab_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:${cxx_flags};${sanitize_flags};${test_flags}>")
target_link_options(mobalab_options INTERFACE ${sanitize_flags})

# mobalab_library(name SOURCES ... LINK ...): a static library of one room. Who installs one gets none of the options.
function(mobalab_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC $<BUILD_INTERFACE:mobalab_options> ${ARG_LINK} PRIVATE ${ARG_PRIVATE})
endfunction()
