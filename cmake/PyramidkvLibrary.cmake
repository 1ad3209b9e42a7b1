# libpyramidkv.so, the library as users link it: pyramidkv::pyramidkv.
#
# A shared one, since a static one would hand its ten dependencies on to every
# user's link line. The command and the tests link the folders as they are.
include(GNUInstallDirs)
get_property(_folders GLOBAL PROPERTY PYRAMIDKV_FOLDERS)
set(_objects)
set(_dependencies)
foreach(_folder ${_folders})
  list(APPEND _objects $<TARGET_OBJECTS:pyramidkv_${_folder}>)
  get_target_property(_linked pyramidkv_${_folder} LINK_LIBRARIES)
  list(APPEND _dependencies ${_linked})
endforeach()
list(REMOVE_DUPLICATES _dependencies)
list(FILTER _dependencies EXCLUDE REGEX "^pyramidkv_")

add_library(libpyramidkv SHARED ${_objects})
add_library(pyramidkv::pyramidkv ALIAS libpyramidkv)
target_include_directories(libpyramidkv INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(libpyramidkv INTERFACE cxx_std_20)
target_link_libraries(libpyramidkv PRIVATE ${_dependencies})
# Calls within the library stay within it, and of what it is made from only
# the namespace pyramidkv is to be seen.
set(_map ${CMAKE_CURRENT_LIST_DIR}/libpyramidkv.map)
target_link_options(libpyramidkv PRIVATE -Wl,-Bsymbolic-functions
                    -Wl,--version-script=${_map})
set_target_properties(libpyramidkv PROPERTIES
  OUTPUT_NAME pyramidkv
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib
  EXPORT_NAME pyramidkv
  LINKER_LANGUAGE CXX
  LINK_DEPENDS ${_map}
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
