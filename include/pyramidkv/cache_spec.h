// A cache spec (docs/cache-spec.md) as text, read and changed key by key: for
// front ends that have flags of their own for some keys.
//
// Nothing is checked here: whoever takes the spec (Engine::NewSession,
// PlanCache) says what is wrong with it.

#ifndef PYRAMIDKV_CACHE_SPEC_H_
#define PYRAMIDKV_CACHE_SPEC_H_

#include <optional>
#include <string>
#include <string_view>

namespace pyramidkv {

// The value that `spec` itself gives `key`, such as "int8" for type_k in
// "snapkv,keep=0.3,type_k=int8"; none where the key is not there: what its
// policy or other keys make of it then is not asked.
std::optional<std::string> CacheSpecValue(std::string_view spec,
                                          std::string_view key);

// `spec` with key=value: in the place where it gave `key` a value, else at the
// end.
std::string SetCacheSpecValue(std::string_view spec, std::string_view key,
                              std::string_view value);

// `spec` as it is meant: without white space around names and values, in small
// letters (but for the file of `profile` and the unit of `memory`), with int8
// and int4 for llama.cpp's names q8_0 and q4_0 of types. Whoever takes a spec
// takes the loose form, too.
std::string TidyCacheSpec(std::string_view spec);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_SPEC_H_
