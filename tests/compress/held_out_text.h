// Prose that no model was calibrated on: written for the tests.
#pragma once

#include <string_view>

namespace lorc::test {

inline constexpr std::string_view kHeldOutText =
    R"(The ferry to the outer islands leaves twice a day in winter, at seven in the morning and
again a little after four, when the light is already going. Marta had missed the first one because
the bakery had burned its rolls and she would not board without breakfast. She sat in the waiting
room with a paper cup of coffee and read the timetable three times, as if a third sailing might
appear between the lines. The clerk behind the glass knew her by sight. He told her that the sea
would be rough past the lighthouse, that two trucks had been turned away, and that her brother had
telephoned to ask whether she was on her way. She said that she was, more or less.

Her brother Anton kept bees on the largest of the islands, where heather covers the northern slope
from August on. People assume that beekeeping is a summer occupation, but most of the work that
decides whether a colony lives is done before the first frost. The hives have to be light enough in
mites and heavy enough in stores; the entrances are narrowed against mice; a strip of felt goes
under each lid so that moisture does not drip on the cluster. Anton weighed every hive with a
luggage scale in October and wrote the numbers in a notebook. A hive that weighed less than thirty
kilograms was given syrup, two parts of sugar to one part of water, until it stopped taking it.
By January there was nothing left to do but wait, and to put an ear against the wood now and then.

How a winter cluster keeps warm is simple in principle. The bees form a ball around the queen, and
those inside it tense the muscles of flight without moving their wings. Each bee gives off a small
amount of heat, about a tenth of a watt when it works hard. The outer layer acts as a coat: its bees
point their heads inwards and close the gaps between them when it grows colder, so that the ball
shrinks and loses less heat through a smaller surface. If the temperature in the middle is 34
degrees and the outermost bees are at 10, then the loss depends on the difference between the two
and on the thickness of the coat, not on how large the empty hive around them is. That is why a
small colony dies in a cold week which a large one hardly notices: its surface is large compared to
the number of bees that have to heat it.

Marta wanted to measure this. She repaired instruments for a living, mostly balances and old
thermographs, and had built a set of twelve sensors that could be slipped between the frames through
a slot no wider than a coin. Every ten minutes they would store a reading; once a day a radio would
send all of them to the house. She had tested the set in her kitchen, in a box with a light bulb,
and found that two of the sensors read half a degree too high. Instead of replacing them she had
written the corrections on a strip of tape: sensor four, minus 0.5; sensor nine, minus 0.6. She
trusted a crooked instrument with a known error more than a straight one that nobody had checked.

At half past three the clerk knocked on the glass. The four o'clock ferry would sail, he said, but
it would not call at the second pier, and passengers for the largest island should sit on the left.
She gathered her bag and the wooden case with the twelve sensors, thanked him, and went down to the
water. The wind had turned. Past the lighthouse the boat began to roll, and she held the case on
her knees with both arms, the way one holds a sleeping child, while the islands came up out of the
rain one after the other. Anton stood on the pier in a yellow coat. "You missed the first one," he
called. "I know," she said. "How are the bees?" He pointed at the case. "That is what you are
supposed to tell me.")";

}  // namespace lorc::test
