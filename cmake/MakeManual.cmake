# cmake -DCOMMAND=PROGRAM -DVERSION=V -DOUTPUT=FOLDER [-DHELP2MAN=PROGRAM]
#       -P MakeManual.cmake
#
# Asks the command for its completion scripts and, where help2man is there, has
# manual pages made of its help: one for the command, one for each subcommand.
function(ask OUT)
  execute_process(COMMAND ${COMMAND} ${ARGN} OUTPUT_VARIABLE _text
                  RESULT_VARIABLE _result)
  if(NOT _result EQUAL 0)
    message(FATAL_ERROR "${COMMAND} ${ARGN} failed: ${_result}")
  endif()
  set(${OUT} "${_text}" PARENT_SCOPE)
endfunction()

# page(NAME SUMMARY WORDS...): the manual page NAME of `pyramidkv WORDS`.
function(page NAME SUMMARY)
  string(JOIN " " _program ${COMMAND} ${ARGN})
  execute_process(
    COMMAND ${HELP2MAN} --no-info --no-discard-stderr --manual=pyramidkv
            --version-string=${VERSION} --name=${SUMMARY}
            --output=${OUTPUT}/man1/${NAME}.1 ${_program}
    RESULT_VARIABLE _result)
  if(NOT _result EQUAL 0)
    message(WARNING "no manual page ${NAME}: ${HELP2MAN} failed: ${_result}")
  endif()
endfunction()

foreach(_shell bash zsh fish)
  ask(_script --completion-${_shell})
  file(WRITE ${OUTPUT}/completion.${_shell} "${_script}")
endforeach()

if(NOT HELP2MAN)
  message(STATUS "no manual pages: help2man is missing")
  return()
endif()
file(MAKE_DIRECTORY ${OUTPUT}/man1)
page(pyramidkv "long prompts in a fraction of the KV cache")
ask(_help --help)
string(REGEX REPLACE ".*\nSubcommands:\n" "" _help "${_help}")
string(REGEX MATCHALL "\n?  [a-z]+ +[^\n]+" _lines "\n${_help}")
foreach(_line IN LISTS _lines)
  string(REGEX MATCH "  ([a-z]+) +(.+)" _found "${_line}")
  set(_name ${CMAKE_MATCH_1})
  set(_summary "${CMAKE_MATCH_2}")
  if(NOT _name MATCHES "^(help|version)$")
    page(pyramidkv-${_name} "${_summary}" ${_name})
  endif()
endforeach()
