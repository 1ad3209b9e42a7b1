# cmake -DSOURCE=DIR -DOUTPUT=FILE -P WriteCommit.cmake: the header with the
# commit of the sources; written only where it changes, since files depend on it.
set(_commit unknown)
find_package(Git QUIET)
if(GIT_FOUND AND EXISTS ${SOURCE}/.git)
  execute_process(
    COMMAND ${GIT_EXECUTABLE} describe --always --dirty --exclude=*
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE _found ERROR_QUIET
    OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _result)
  if(_result EQUAL 0)
    set(_commit ${_found})
  endif()
endif()
set(_text "#define PYRAMIDKV_COMMIT \"${_commit}\"\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} _old)
endif()
if(NOT "${_old}" STREQUAL "${_text}")
  file(WRITE ${OUTPUT} "${_text}")
endif()
