# pyramidkv_folder(NAME [READS_TREE] [SUBFOLDERS folders...]
#                  [DEPENDS targets...] [TEST_DEPENDS targets...])
#
# One static library for the folder and the sub-folders that are named,
# pyramidkv_NAME, from their *.cc, and one test program, NAME_test, from their
# *_test.cc. READS_TREE: its tests read files below PYRAMIDKV_SOURCE_DIR; others
# compile alike in every checkout, so that these share a compiler cache.
function(pyramidkv_folder NAME)
  cmake_parse_arguments(ARG READS_TREE "" "SUBFOLDERS;DEPENDS;TEST_DEPENDS"
    ${ARGN})
  set(_reads)
  if(ARG_READS_TREE)
    set(_reads READS_TREE)
  endif()
  pyramidkv_glob(_sources *.cc ${ARG_SUBFOLDERS})
  list(FILTER _sources EXCLUDE REGEX "_test\\.cc$")
  add_library(pyramidkv_${NAME} STATIC ${_sources})
  set_property(GLOBAL APPEND PROPERTY PYRAMIDKV_FOLDERS ${NAME})
  target_include_directories(pyramidkv_${NAME} PUBLIC
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(pyramidkv_${NAME} PRIVATE ${ARG_DEPENDS} fmt::fmt)
  pyramidkv_tests(${NAME} ${_reads} SUBFOLDERS ${ARG_SUBFOLDERS}
    DEPENDS pyramidkv_${NAME} ${ARG_DEPENDS} ${ARG_TEST_DEPENDS} fmt::fmt)
endfunction()

# pyramidkv_glob(OUT PATTERN [folders...]): the files of this folder and of
# these sub-folders of it.
function(pyramidkv_glob OUT PATTERN)
  set(_globs ${CMAKE_CURRENT_SOURCE_DIR}/${PATTERN})
  foreach(_folder ${ARGN})
    list(APPEND _globs ${CMAKE_CURRENT_SOURCE_DIR}/${_folder}/${PATTERN})
  endforeach()
  file(GLOB _files CONFIGURE_DEPENDS ${_globs})
  set(${OUT} ${_files} PARENT_SCOPE)
endfunction()

# pyramidkv_tests(NAME [READS_TREE] [SUBFOLDERS folders...] DEPENDS targets...):
# the program NAME_test from the *_test.cc, as the CTest test unit.NAME, labelled
# `unit`. Under the thread sanitizer it has the files with a suite or case named
# *Threaded* alone, and runs those.
function(pyramidkv_tests NAME)
  cmake_parse_arguments(ARG READS_TREE "" "SUBFOLDERS;DEPENDS" ${ARGN})
  pyramidkv_glob(_tests *_test.cc ${ARG_SUBFOLDERS})
  set(_filter *)
  if(PYRAMIDKV_SANITIZE STREQUAL "thread")
    set(_filter *Threaded*)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${_tests})
    foreach(_file ${_tests})
      file(STRINGS ${_file} _found REGEX "Threaded" LIMIT_COUNT 1)
      if(NOT _found)
        list(REMOVE_ITEM _tests ${_file})
      endif()
    endforeach()
  endif()
  if(NOT _tests OR NOT PYRAMIDKV_BUILD_TESTS)
    return()
  endif()
  add_executable(${NAME}_test ${_tests})
  target_link_libraries(${NAME}_test PRIVATE ${ARG_DEPENDS}
    GTest::gtest GTest::gmock GTest::gtest_main)
  if(ARG_READS_TREE)
    target_compile_definitions(${NAME}_test PRIVATE
      PYRAMIDKV_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  endif()
  add_test(NAME unit.${NAME}
           COMMAND ${NAME}_test --gtest_brief=1 --gtest_filter=${_filter})
  # Sanitizers make a minute ten.
  set(_timeout 300)
  if(PYRAMIDKV_SANITIZE)
    set(_timeout 1500)
  endif()
  set_tests_properties(unit.${NAME} PROPERTIES LABELS unit TIMEOUT ${_timeout})
endfunction()
