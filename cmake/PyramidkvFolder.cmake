# pyramidkv_folder(NAME [SUBFOLDERS folders...] [DEPENDS targets...]
#                  [TEST_DEPENDS targets...])
#
# One static library for the folder and the sub-folders that are named,
# pyramidkv_NAME, from their *.cc, and one test program, NAME_test, from their
# *_test.cc. Every case of it is a CTest test with the label `unit` (`threaded`
# too for suites named *Threaded*).
function(pyramidkv_folder NAME)
  cmake_parse_arguments(ARG "" "" "SUBFOLDERS;DEPENDS;TEST_DEPENDS" ${ARGN})
  set(_source_globs ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(_test_globs ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  foreach(_folder ${ARG_SUBFOLDERS})
    list(APPEND _source_globs ${CMAKE_CURRENT_SOURCE_DIR}/${_folder}/*.cc)
    list(APPEND _test_globs ${CMAKE_CURRENT_SOURCE_DIR}/${_folder}/*_test.cc)
  endforeach()
  file(GLOB _sources CONFIGURE_DEPENDS ${_source_globs})
  file(GLOB _tests CONFIGURE_DEPENDS ${_test_globs})
  if(_tests)
    list(REMOVE_ITEM _sources ${_tests})
  endif()
  add_library(pyramidkv_${NAME} STATIC ${_sources})
  target_include_directories(pyramidkv_${NAME} PUBLIC
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(pyramidkv_${NAME} PRIVATE ${ARG_DEPENDS} fmt::fmt)
  if(_tests)
    add_executable(${NAME}_test ${_tests})
    target_link_libraries(${NAME}_test PRIVATE pyramidkv_${NAME}
      ${ARG_DEPENDS} ${ARG_TEST_DEPENDS} fmt::fmt GTest::gtest
      GTest::gmock GTest::gtest_main)
    target_compile_definitions(${NAME}_test PRIVATE
      PYRAMIDKV_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    add_test(NAME unit.${NAME} COMMAND ${NAME}_test --gtest_brief=1)
    # Sanitizers make a minute ten.
    set(_timeout 300)
    if(PYRAMIDKV_SANITIZE)
      set(_timeout 1500)
    endif()
    set_tests_properties(unit.${NAME} PROPERTIES
      LABELS unit TIMEOUT ${_timeout})
  endif()
endfunction()
