#include "eval/grammar.h"

namespace pyramidkv {
namespace {

// No digits, and nothing about keys, fruits of the needles, or cities.
constexpr GrammarRule kGrammar[] = {
    {"name",
     "Anna|Bertram|Clara|Daniel|Edith|Felix|Greta|Henry|Irene|Jonas|Karin|"
     "Leopold|Martha|Nils|Olivia|Peter|Rosa|Simon|Thea|Viktor"},
    {"role",
     "baker|teacher|gardener|carpenter|captain|doctor|librarian|farmer|tailor|"
     "painter|postman|weaver|miller|surveyor|potter|clerk"},
    {"place",
     "harbour|market|library|orchard|mill|station|bridge|workshop|meadow|"
     "museum|chapel|bakery|vineyard|lighthouse|courtyard|village|quarry|"
     "theatre"},
    {"thing",
     "ladder|lantern|basket|clock|map|bell|kettle|wagon|violin|blanket|"
     "wheelbarrow|letter|painting|chair|rope|bottle|compass"},
    {"things",
     "boots|candles|feathers|stones|ribbons|shells|tools|papers|barrels|"
     "onions|bricks|nails|cups|seeds|shutters|planks"},
    {"adj",
     "old|narrow|quiet|wooden|bright|heavy|broken|green|distant|gentle|"
     "crooked|empty|dusty|warm|plain|pale|enormous|forgotten"},
    {"animal",
     "heron|fox|goat|owl|donkey|cat|swallow|hedgehog|sheepdog|horse|crow|"
     "otter|pigeon|hare"},
    {"season", "spring|summer|autumn|winter"},
    {"part", "morning|afternoon|evening|night"},
    {"weather", "rain|wind|fog|frost|snow|sunshine|thunder|drizzle"},
    {"verb",
     "repaired|painted|carried|sold|borrowed|measured|cleaned|described|"
     "moved|polished|lost|found|weighed|admired"},
    {"went", "walked|hurried|wandered|drove|rode|climbed|crept|ran"},
    {"feel", "patient|cheerful|tired|curious|nervous|proud|calm|doubtful"},
    {"food",
     "soup|bread|cheese|porridge|cabbage|honey|trout|pancakes|dumplings|"
     "mushrooms"},
    {"count", "two|three|four|five|seven|twelve|twenty|several"},
    {"craft",
     "weaving|bookbinding|glassmaking|beekeeping|masonry|navigation|"
     "gardening|printing|woodcarving|astronomy"},
    {"adverb", "slowly|carefully|often|rarely|quietly|suddenly|usually|soon"},
    {"to", "to|past|behind|towards|around"},
    {"sentence",
     "{clause}.|{clause}.|{clause} {when}.|{when}, {clause}.|"
     "{clause}, and {clause}.|{clause}, but {clause}.|"
     "{clause}, although {clause}.|Because {clause}, {clause}.|"
     "While {clause}, {clause}.|{fact}.|{fact}, or so {who} thought.|"
     "It is said that {fact}.|\"{fact},\" said {name}.|"
     "{name} asked whether {clause}.|Has anyone told {who} that {clause}?|"
     "There were {count} {things} {where}.|{name} laughed."},
    {"clause",
     "{who} {adverb} {verb} {what}|"
     "{who} {verb} {what} and {went} {to} the {place}|"
     "{who} {went} {to} the {place}|{who} felt {feel}|"
     "{who} wrote about {craft} and {weather}|{who} was fond of {food}|"
     "{who} left {what} {where}|{who} needed {count} {things}|"
     "{who} talked to {who} about {what}|"
     "the {animal} {went} {to} the {place}|the {animal} slept {where}|"
     "the {weather} stopped|{what} lay {where}|{what} could not be found|"
     "nobody {verb} {what}"},
    {"fact",
     "{food} tasted better than {food}|"
     "the history of {craft} is longer than that of {craft}|"
     "every {season} the {place} is full of {things}|"
     "{weather} in {season} makes the {animal} {feel}|"
     "a {adj} {thing} is worth more than {count} {things}|"
     "the path from the {place} to the {place} is {adj}|"
     "most people who study {craft} begin with {adj} {things}|"
     "no {role} should trust the {weather}"},
    {"who",
     "{name}|{name}|the {role}|the {adj} {role}|the {role} from the {place}|"
     "{name} and the {role}"},
    {"what",
     "the {thing}|the {adj} {thing}|{count} {things}|the {adj} {things}|"
     "the {thing} of the {role}"},
    {"where",
     "near the {place}|under the {adj} roof|beside the {thing}|"
     "between the {place} and the {place}|in the kitchen"},
    {"when",
     "in the {part}|one {adj} {part}|after the {weather}|"
     "before {season} came|long ago|during the {weather}"},
};

}  // namespace

std::span<const GrammarRule> TextGrammar() { return kGrammar; }

}  // namespace pyramidkv
