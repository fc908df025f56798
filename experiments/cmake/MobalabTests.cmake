# How tests are registered.
include(GoogleTest)
find_package(GTest REQUIRED)

# What is tested is optimised fully; the tests themselves need not be, and compile in two thirds of the time.
function(mobalab_test_options target)
  # Programs would get -fPIE and objects -fPIC, and g++ takes precompiled headers of the same options only.
  set_target_properties(${target} PROPERTIES MOBALAB_TEST ON POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>)
  # g++ 12 takes the sum of a temporary string and a literal for an overrun at -O1 with precompiled headers (GCC bug
  # 105651). The address sanitizer looks at the same lines.
  foreach(warning array-bounds restrict stringop-overflow)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-${warning}>)
  endforeach()
endfunction()

# GoogleTest's headers, parsed once: reading them was two thirds of the work of compiling most test files.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/test_headers.cc CONTENT "")
add_library(mobalab_test_headers OBJECT ${PROJECT_BINARY_DIR}/test_headers.cc)
target_link_libraries(mobalab_test_headers PRIVATE mobalab_options GTest::gtest GTest::gmock)
target_precompile_headers(mobalab_test_headers PRIVATE
  "$<$<COMPILE_LANGUAGE:CXX>:<gtest/gtest.h$<ANGLE-R>>" "$<$<COMPILE_LANGUAGE:CXX>:<gmock/gmock.h$<ANGLE-R>>")
mobalab_test_options(mobalab_test_headers)

# mobalab_test(name SOURCES ... LINK ... [LABELS ...] [TIMEOUT s] [DEFINITIONS ...] [ENVIRONMENT VARIABLE=value ...]
#              [PROCESSORS n]): a GoogleTest program. CTest runs each of its tests in a process of its own, named
# name.Suite.Test, so that long programs show progress, run side by side, and a skipped test is reported as skipped.
function(mobalab_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;PROCESSORS" "SOURCES;LINK;LABELS;DEFINITIONS;ENVIRONMENT" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  if(NOT ARG_PROCESSORS)
    set(ARG_PROCESSORS 1)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE mobalab_options ${ARG_LINK} GTest::gtest GTest::gtest_main GTest::gmock)
  target_compile_definitions(${name} PRIVATE ${ARG_DEFINITIONS})
  mobalab_test_options(${name})
  target_precompile_headers(${name} REUSE_FROM mobalab_test_headers)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. TEST_LIST ${name}_tests NO_PRETTY_VALUES
                       DISCOVERY_TIMEOUT 300)

  # Properties that are lists can be set only where ctest reads the discovered tests.
  set(properties_file ${CMAKE_CURRENT_BINARY_DIR}/${name}_properties.cmake)
  file(WRITE ${properties_file} "\
foreach(test IN LISTS ${name}_tests)
  set_tests_properties(\"\${test}\" PROPERTIES LABELS \"${ARG_LABELS}\" TIMEOUT ${ARG_TIMEOUT}
    PROCESSORS ${ARG_PROCESSORS} ENVIRONMENT \"${ARG_ENVIRONMENT}\")
endforeach()
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${properties_file})
endfunction()

# mobalab_python_test(name script [argument ...] [LABELS ...]): a Python program of the current folder as one CTest test,
# run by the Python that has Debian's packages.
function(mobalab_python_test name script)
  cmake_parse_arguments(ARG "" "" "LABELS" ${ARGN})
  add_test(NAME ${name} COMMAND ${MOBALAB_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${ARG_UNPARSED_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES TIMEOUT 600 LABELS "${ARG_LABELS}" ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endfunction()
