# mobalab_wheel(LIBRARY PROGRAM): what the Python wheel (pyproject.toml) holds beside Python files: the shared library
# inside the package mobalab_kernels and, unless PROGRAM is empty, the program with the figures it draws. What they are
# made of is a dependency of the target `wheel`.
function(mobalab_wheel library program)
  add_custom_target(wheel)
  install(PROGRAMS ${library} DESTINATION mobalab_kernels COMPONENT python)
  if(program)
    install(PROGRAMS ${program} DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT python)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/notebooks_export DESTINATION ${SKBUILD_DATA_DIR}/share/mobalab
            COMPONENT python PATTERN __pycache__ EXCLUDE PATTERN gallery EXCLUDE)
  endif()
endfunction()
