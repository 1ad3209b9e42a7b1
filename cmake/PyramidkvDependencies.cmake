# Finds what script/bootstrap installed. Nothing is downloaded here.

# ggml and libllama: from .deps/venv unless the user points elsewhere with
# CMAKE_PREFIX_PATH (an own install of llama.cpp works the same way).
file(GLOB _site_packages ${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages)
list(APPEND CMAKE_PREFIX_PATH ${_site_packages})

find_program(CCACHE ccache)
if(CCACHE)
  # Checkouts share it: paths count from the checkout.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
      CCACHE_NOHASHDIR=1 ${CCACHE})
endif()

foreach(_package ggml llama)
  find_package(${_package} QUIET)
  if(NOT ${_package}_FOUND)
    message(FATAL_ERROR "${_package} not found: run script/bootstrap, or set "
                        "CMAKE_PREFIX_PATH to an install of llama.cpp")
  endif()
endforeach()
# Not through its package file: Debian's asks for OpenCL, which we do not use.
find_library(DNNL_LIBRARY dnnl REQUIRED)
if(NOT TARGET DNNL::dnnl)  # of a project that adds this one
  add_library(DNNL::dnnl UNKNOWN IMPORTED)
  set_target_properties(DNNL::dnnl PROPERTIES
                        IMPORTED_LOCATION ${DNNL_LIBRARY})
endif()
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
if(PYRAMIDKV_BUILD_COMMAND)
  find_package(CLI11 REQUIRED)
  pkg_check_modules(EDIT REQUIRED IMPORTED_TARGET libedit)
endif()
if(PYRAMIDKV_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
if(PYRAMIDKV_BUILD_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

# Where the libraries of ggml and llama lie, for the RPATH of our binaries.
get_filename_component(_llama_lib_dir ${llama_DIR}/../.. ABSOLUTE)
set(CMAKE_BUILD_RPATH ${_llama_lib_dir})

# x86-64-v2 is the oldest CPU that runs this; newer ones are dispatched to.
add_compile_options(-march=x86-64-v2 -Wall -Wextra -Wno-unused-parameter
                    -Werror=switch -fno-math-errno -fno-trapping-math
                    -ffp-contract=off)
if(PYRAMIDKV_SANITIZE)
  add_compile_options(-fsanitize=${PYRAMIDKV_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PYRAMIDKV_SANITIZE})
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug" OR PYRAMIDKV_SANITIZE)
  add_compile_definitions(PYRAMIDKV_DCHECKS=1)
endif()
