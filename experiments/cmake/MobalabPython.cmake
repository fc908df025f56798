# Python that draws the figures: Debian's own, which is where the python3-* packages install; any other only without it.
find_program(MOBALAB_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH DOC "Python for mobalab export")
find_program(MOBALAB_PYTHON NAMES python3)
if(NOT MOBALAB_PYTHON)
  set(MOBALAB_PYTHON /usr/bin/python3 CACHE FILEPATH "Python for mobalab export" FORCE)
endif()
