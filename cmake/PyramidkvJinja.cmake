# llama.cpp's template engine, llama_jinja: compiled from the sources that
# script/bootstrap unpacks. libllama-common exports it, too, but without the
# headers, cannot be mended, and brings an HTTP client and OpenSSL with it.
set(PYRAMIDKV_LLAMA_SOURCES ${PROJECT_SOURCE_DIR}/.deps/llama.cpp CACHE PATH
    "llama.cpp's sources: common/jinja, its helpers, LICENSE")
if(NOT EXISTS ${PYRAMIDKV_LLAMA_SOURCES}/common/jinja/runtime.cpp)
  message(FATAL_ERROR "llama.cpp's template engine is not in "
    "${PYRAMIDKV_LLAMA_SOURCES}: run script/bootstrap, or set "
    "PYRAMIDKV_LLAMA_SOURCES to a source tree of llama.cpp")
endif()

# A copy that departs less from jinja2: containers and none are printed, strings
# as Python's repr shows them, undefined + text is refused, and what is safe
# escapes what it is joined with.
set(_patch ${PROJECT_SOURCE_DIR}/cmake/jinja.patch)
set(_sources ${PROJECT_BINARY_DIR}/llama_jinja)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${_patch})
file(SHA256 ${_patch} _want)
file(SHA256 ${PYRAMIDKV_LLAMA_SOURCES}/common/jinja/value.cpp _sum)
string(APPEND _want ${_sum})
set(_have)
if(EXISTS ${_sources}/.patched)
  file(READ ${_sources}/.patched _have)
endif()
if(NOT _have STREQUAL _want)
  file(REMOVE_RECURSE ${_sources})
  file(COPY ${PYRAMIDKV_LLAMA_SOURCES}/common/ DESTINATION ${_sources})
  # Not as a part of the repository that the build may lie in.
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env GIT_CEILING_DIRECTORIES=${PROJECT_BINARY_DIR}
            git apply ${_patch}
    WORKING_DIRECTORY ${_sources} RESULT_VARIABLE _result)
  if(NOT _result EQUAL 0)
    message(FATAL_ERROR "${_patch} does not fit ${PYRAMIDKV_LLAMA_SOURCES}")
  endif()
  file(WRITE ${_sources}/.patched ${_want})
endif()

add_library(llama_jinja STATIC
  ${_sources}/jinja/lexer.cpp ${_sources}/jinja/parser.cpp
  ${_sources}/jinja/runtime.cpp ${_sources}/jinja/string.cpp
  ${_sources}/jinja/value.cpp ${_sources}/json.cpp ${_sources}/unicode.cpp)
target_include_directories(llama_jinja SYSTEM PUBLIC ${_sources})
target_compile_options(llama_jinja PRIVATE -w)
target_link_libraries(llama_jinja PUBLIC ggml::ggml-base
  nlohmann_json::nlohmann_json)
