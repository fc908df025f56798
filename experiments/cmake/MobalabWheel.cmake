# mobalab_wheel(LIBRARY PROGRAM): what the Python wheel (pyproject.toml) holds beside its Python packages: the shared library
# inside mobalab_kernels and, unless PROGRAM is empty, the program inside mobalab, a script that runs it from PATH, and the
# package that draws its figures. What they are made of is a dependency of the target `wheel`.
function(mobalab_wheel library program)
  add_custom_target(wheel)
  install(PROGRAMS ${library} DESTINATION mobalab_kernels COMPONENT python)
  if(program)
    install(PROGRAMS ${program} DESTINATION mobalab/program COMPONENT python)
    install(PROGRAMS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/run_mobalab.py RENAME mobalab DESTINATION ${SKBUILD_SCRIPTS_DIR}
            COMPONENT python)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/notebooks_export DESTINATION . COMPONENT python
            PATTERN __pycache__ EXCLUDE PATTERN gallery EXCLUDE PATTERN README.md EXCLUDE)
  endif()
endfunction()
