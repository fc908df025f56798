# The Python wheel of what the build folder MOBALAB_PREBUILT holds: nothing is looked for or compiled. Its program is
# taken too where it was built.
if(NOT SKBUILD)
  message(FATAL_ERROR "MOBALAB_PREBUILT=${MOBALAB_PREBUILT} is for the Python wheel; leave it out of other builds")
endif()
set(library ${MOBALAB_PREBUILT}/lib/libmobalab_kernels.so)
if(NOT EXISTS ${library})
  message(FATAL_ERROR "MOBALAB_PREBUILT=${MOBALAB_PREBUILT}: must be a build folder with lib/libmobalab_kernels.so; \
build the target mobalab_kernels_c there, or leave MOBALAB_PREBUILT out")
endif()
set(program ${MOBALAB_PREBUILT}/bin/mobalab)
if(NOT EXISTS ${program})
  set(program "")
endif()
include(MobalabWheel)
mobalab_wheel(${library} "${program}")
