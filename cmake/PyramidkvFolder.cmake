# pyramidkv_folder(NAME [DEPENDS targets...] [TEST_DEPENDS targets...])
#
# One static library for the folder, pyramidkv_NAME, from its *.cc, and one
# test program, NAME_test, from its *_test.cc.
function(pyramidkv_folder NAME)
  cmake_parse_arguments(ARG "" "" "DEPENDS;TEST_DEPENDS" ${ARGN})
  file(GLOB _sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER _sources EXCLUDE REGEX "_test\\.cc$")
  add_library(pyramidkv_${NAME} STATIC ${_sources})
  set_property(GLOBAL APPEND PROPERTY PYRAMIDKV_FOLDERS ${NAME})
  target_include_directories(pyramidkv_${NAME} PUBLIC
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(pyramidkv_${NAME} PRIVATE ${ARG_DEPENDS} fmt::fmt)
  pyramidkv_tests(${NAME} pyramidkv_${NAME} ${ARG_DEPENDS}
    ${ARG_TEST_DEPENDS} fmt::fmt)
endfunction()

# pyramidkv_tests(NAME targets...): the program NAME_test from the folder's
# *_test.cc, as the CTest test unit.NAME with the label `unit`. Under the thread
# sanitizer it has the files with a suite or case named *Threaded* alone, and
# runs those.
function(pyramidkv_tests NAME)
  file(GLOB _tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
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
  target_link_libraries(${NAME}_test PRIVATE ${ARGN}
    GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${NAME}_test PRIVATE
    PYRAMIDKV_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME unit.${NAME}
           COMMAND ${NAME}_test --gtest_brief=1 --gtest_filter=${_filter})
  # Sanitizers make a minute ten.
  set(_timeout 300)
  if(PYRAMIDKV_SANITIZE)
    set(_timeout 1500)
  endif()
  set_tests_properties(unit.${NAME} PROPERTIES LABELS unit TIMEOUT ${_timeout})
endfunction()
