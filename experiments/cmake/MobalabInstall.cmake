# What `cmake --install` and the Python wheel (pyproject.toml) hold. Components: "development" (headers, libraries,
# find_package(mobalab)) and "python" (what the wheel takes; it exists only when scikit-build-core builds).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(installed_targets mobalab_kernels mobalab_kernels_c)
if(TARGET mobalab_kernels_cuda)
  list(APPEND installed_targets mobalab_kernels_cuda)
endif()
install(TARGETS ${installed_targets} EXPORT mobalab_targets
        LIBRARY COMPONENT development ARCHIVE COMPONENT development)
# Included as in the source tree: "kernels/kernels.h".
set(installed_headers ${CMAKE_INSTALL_INCLUDEDIR}/mobalab)
foreach(header decode.h kernels.h scorer.h scorers/scorers.h c_api/mobalab_kernels.h)
  cmake_path(GET header PARENT_PATH folder)
  install(FILES ${PROJECT_SOURCE_DIR}/kernels/${header} DESTINATION ${installed_headers}/kernels/${folder}
          COMPONENT development)
endforeach()
foreach(target mobalab_kernels mobalab_kernels_c)
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${installed_headers}>)
endforeach()
target_compile_features(mobalab_kernels INTERFACE cxx_std_20)
set_target_properties(mobalab_kernels PROPERTIES EXPORT_NAME kernels)
set_target_properties(mobalab_kernels_c PROPERTIES EXPORT_NAME kernels_c)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/mobalab)
install(EXPORT mobalab_targets NAMESPACE mobalab:: FILE mobalab-targets.cmake DESTINATION ${config_folder}
        COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/mobalab-config.cmake.in
                              ${PROJECT_BINARY_DIR}/mobalab-config.cmake INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mobalab-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/mobalab-config.cmake ${PROJECT_BINARY_DIR}/mobalab-config-version.cmake
        DESTINATION ${config_folder} COMPONENT development)

if(SKBUILD)
  include(MobalabWheel)
  if(MOBALAB_HAVE_PROGRAM)
    mobalab_wheel($<TARGET_FILE:mobalab_kernels_c> $<TARGET_FILE:mobalab>)
    add_dependencies(wheel mobalab_kernels_c mobalab)
  else()
    mobalab_wheel($<TARGET_FILE:mobalab_kernels_c> "")
    add_dependencies(wheel mobalab_kernels_c)
  endif()
endif()
