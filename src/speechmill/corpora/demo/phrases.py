"""The sentences of the demo corpus as clauses with slots, by who says them.

A statement is an opening, a clause and a tail, or two clauses; the slots in braces are filled from `vocabulary.LISTS`,
with figures and with the names of a call (`{boss}` its CEO, `{asker}` an analyst, `{company}`, `{other}` company).
"""

from __future__ import annotations


def _parts(text: str) -> list[str]:
    """Split at bars; an empty part (two bars) is a choice to say nothing."""
    return [part.strip() for part in text.strip().split("|")]


OPENINGS = [
    part and part + " "
    for part in _parts("""
|||||||
so|and|as you know,|in addition,|overall,|again,|however,|first,|second,|now,|also,|finally,|in fact,|of course,
|at the same time,|as a result,|importantly,|looking ahead,|for the quarter,|in {region},|in {quarter},
|on a reported basis,|compared to last year,|for the full year,|as expected,|turning to {segment},|during {period},
|to be clear,|in other words,|as I mentioned,
|excluding {driver},|in our {segment} business,|despite {driver},|because of {driver},|given {driver},
|let me add that|please note that|I would say that|we believe that|it is clear that|you will see that|I am pleased that
""")
]

TAILS = [
    part and " " + part
    for part in _parts("""
|||||||||
 compared to last year|as we expected|year over year|in line with our guidance|driven by {driver}|because of {driver}
|in {region}|in the {nth} quarter|{when}|despite {driver}|mainly due to {driver}|for the {nth} time since {year}
|with {good} results in {region}|which is a record for us|before the end of the year|from a year ago
|on a constant currency basis|and we expect more of that {when}|partly offset by {driver}|thanks to {driver}
|ahead of our plan|across all regions|and that is {good} progress|as discussed on our last call
""")
]

FINANCE = """
{amount} {upto} {money}
{amount} {upto} {money}, {change} {pct} from last year
{amount} {up} {pct}
{amount} {down} {pct}
{amount} {up} {pct} to {money}
{amount} was {money} compared to {money} in {quarter}
{ratio} {upto} {pct}
{ratio} was {pct} compared to {pct} in {year}
{ratio} {up} by {small} basis points to {pct}
{ratio} {down} by {bps} basis points
earnings per share were {price}
earnings per share were {price}, {change} {pct} from the prior year
we delivered earnings of {price} per share
we now expect earnings between {price} and {price} per share
we expect {amount} of {size} {money}
we expect {amount} between {money} and {money}
we expect {ratio} of {size} {pct}
our {segment} segment delivered {amount} of {money}
our {segment} segment {up} {pct}, while {segment} {down} {pct}
{segment} {amount} {up} {pct} on {driver}
we ended the quarter with {money} of cash
we ended {quarter} with {size} {money} of cash and {money} of debt
we returned {money} to shareholders through dividends and buybacks
we repurchased {count} shares at an average price of {price}
the board approved a dividend of {price} per share
we spent {money} on research and development
operating expenses were {money}, or {pct} of sales
selling and marketing expenses {up} {pct}
interest expense was {money} in the quarter
the effective tax rate was {pct}
capital expenditures were {size} {money} {when}
depreciation and amortization came to {money}
our backlog stood at {money} at the end of {month}
we added {count} {thing} in {quarter}
we sold {count} {thing}, {change} {pct}
we shipped {count} {thing} to {group} in {region}
{region} {up} {pct} and {region} was {change} {pct}
sales in {region} {up} {pct} to {money}
average revenue per customer {upto} {price}
the average selling price was {price}, {change} {pct}
currency reduced our {amount} by {money}
foreign exchange was a headwind of {bps} basis points
{driver} added {size} {pct} to {ratio}
we recorded a charge of {money} related to {driver}
we are raising our guidance for {year} to {money}
we are keeping our guidance for the full year unchanged at {money}
our outlook assumes {driver} and {driver}
net debt was {small} times adjusted EBITDA
accounts receivable were {money} and inventory was {money}
we recorded a tax benefit of {money} in {quarter}
""".strip().split("\n")

BUSINESS = """
we {action}
we {action} and {action}
this quarter we {action}
in {month} we {action}
last month we {action}
since {quarter}, we {action}
I am {sure} that we {action}
over the last {small} months we {action}
our {segment} business had a {good} quarter
demand for our {product} was {good} in {region}
demand from {group} remains {good}
conditions in {region} were {bad}
the market in {region} remains {bad}
we are {sure} about the outlook for {year}
we remain {sure} about {topic}
our strategy is to {goal}
our first priority is to {goal}, and our second is to {goal}
we continue to {goal}
we will continue to {goal} {when}
{group} tell us that our {product} saves them time and money
more than {count} {thing} now use our {product}
we now serve {count} {thing} in {region}
we have {count} {thing} today, and we plan to add {count} more {when}
the launch of our {product} in {region} went very well
our new {product} is ahead of schedule
our {product} is now available in {small} countries
the integration of {other} is on track
we expect the deal with {other} to close {when}
we opened {small} {thing} in {region} {when}
our team in {region} did a fantastic job
I want to thank our {count} employees for their hard work
{first} {last} joined us as head of {segment} in {month}
{first} {last} will lead our {segment} team from {month}
our partnership with {other} gives us access to {group} in {region}
we see a {good} pipeline in {segment} and {segment}
we won {small} large contracts, including one with {other}
the {product} remains the best in the industry
quality and safety come first at {company}
{company} is a stronger company today than it was in {year}
we started {company} with {small} people, and now we are {count}
customer satisfaction reached {pct}
{pct} of our {group} now buy more than one product
our factories ran at {pct} of capacity
the supply chain is {good} again
we have enough capacity to {goal}
this allows us to {goal}
we are using artificial intelligence to {goal}
our sales team is focused on {group}
we are well positioned to {goal}
the {nth} phase of the project starts {when}
we are investing in {region}, where growth is {good}
we will open our next site in {region} {when}
we have made {good} progress on {topic}
competition in {segment} is intense, but our {product} is better
we reduced our emissions by {pct} since {year}
our order book covers {pct} of the plan for {year}
we expect {topic} to improve {when}
we expect {driver} to continue {when}
{topic} was a headwind for us, while {topic} helped
{segment} and {segment} are our fastest growing businesses
the trends in {segment} are {good}
traffic in our stores {up} {pct}
our app was downloaded {count} times
we have a clear plan to {goal}
we are not where we want to be on {topic}
we took a hard look at {topic} and decided to act
our people in {region} worked through a {bad} environment
we see opportunities to {goal} in {region}
inflation is still {bad}, and we have raised prices by {pct}
""".strip().split("\n")

GREETINGS = """
thank you, {operator}, and good {day} everyone
good {day}, and welcome to our call for {quarter} {year}
thank you, and good {day} to all of you from {region}
thanks, {operator}, and thank you all for joining {company} today
good {day}, this is {me}, and I am happy to be with you from {region}
hello everyone, and welcome to the {nth} quarter call of {company}
""".strip().split("\n")

OPERATOR_OPEN = """
good {day}, ladies and gentlemen, and welcome to the {company} {nth} quarter {year} earnings call
good {day}, and thank you for standing by for the {company} conference call
welcome to the {quarter} {year} results conference call of {company}
hello, and welcome to the {company} results call for the {nth} quarter of {year}
""".strip().split("\n")

OPERATOR_TURN = """
I would now like to turn the call over to {boss_name}, chief executive officer of {company}
I will now hand the conference over to {boss_name}, CEO of {company}
with us today are {boss_name}, CEO, and {cfo_name}, CFO of {company}
your host today is {boss_name} of {company}, so please go ahead, {boss}
""".strip().split("\n")

# What the operator says where the transcript only has the line "Operator Instructions".
OPERATOR_INSTRUCTIONS = """
to ask a question, please press star and then {small} on your telephone keypad
if you would like to ask a question, please press star {small} now
please press star followed by {small} if you have a question, and star {small} to remove yourself from the queue
we will now begin the question and answer session, so please press star {small}
""".strip().split("\n")

OPERATOR_NEXT = """
next is {asker_name}
{asker_name}, please go ahead
our next question comes from {asker_name} with {bank}
the next question is from {asker_name} of {bank}
we will go to {asker_name} at {bank}
next we have {asker_name} from {bank}
our next question comes from the line of {asker_name} with {bank}, please go ahead
we take the next question from {asker_name}, {bank}
your line is open, {asker_name} of {bank}
please go ahead, {asker_name} of {bank}
""".strip().split("\n")

OPERATOR_CLOSE = """
this concludes the {company} call for {quarter} {year}
ladies and gentlemen, this concludes the conference call of {company}, and you may now disconnect
thank you for joining the {company} call, and have a good {day}
that was our last question, so I hand back to {boss_name} of {company}
""".strip().split("\n")

HANDOVER = """
with that, I will turn it over to {cfo} to discuss {topic} and the financial results
let me now hand over to {cfo_name} for the numbers of {quarter}
{cfo} will now walk you through the results of {quarter} {year}
now over to {cfo_name}, our chief financial officer, for more on {topic}
""".strip().split("\n")

CFO_OPEN = """
thank you, {boss}, and good {day} everyone, let me start with {amount}
thanks, {boss}, I will begin with {quarter} and then turn to {topic}
thank you, {boss_name}, and hello to everyone on the call from {region}
good {day}, I will comment on {topic} first and on {topic} later
""".strip().split("\n")

ASK_OPEN = """
thank you for taking my question, {answerer}
thanks, {answerer}, and congratulations on a {good} quarter
hi {answerer}, this is {asker_name} from {bank}
good {day} {answerer}, I have {small} questions on {topic}
hello {answerer}, thanks for taking the question on {topic}
hi everyone, {asker} here from {bank}
great quarter, {answerer}, and thanks for the details on {topic}
yes, hi {answerer}, it is {asker} from {bank}
good {day}, and congratulations to {answerer} and the team in {region}
""".strip().split("\n")

QUESTIONS = """
could you talk about {topic} in {region}?
can you give us more color on {topic}?
what are you seeing in {region} {when}?
how should we think about {topic} {when}?
how should we think about {ratio} in {year}?
what is driving {amount} in {segment}?
can you help us understand why {ratio} {down} in {quarter}?
where do you see {ratio} {when}?
you said {amount} {up} {pct}, so how much of that was {driver}?
do you still expect {amount} of {money} in {year}?
is {pct} still the right number for {ratio}?
what is your view on {topic} after {driver}?
how much of the {pct} came from {driver}?
when do you expect {topic} to improve?
what does the deal with {other} mean for {topic}?
are you seeing any change in {topic} from {group}?
how is {topic} developing in {region} compared to {region}?
what would it take to {goal}?
should we expect {driver} to continue {when}?
is there any update on {topic} or {topic}?
can you remind us how many {thing} you have in {region}?
what gives you the confidence to {goal}?
how quickly can you {goal}?
what did you hear from {group} in {month}?
could you break down the {money} of {amount} by region?
are {group} in {region} still buying the {product}?
why did {amount} come in below {money}?
is the {product} going to {goal}?
my second question is on {topic}, where things look {bad}
my question is about {topic} and {driver}
I wanted to ask about the {product} and the launch in {region}
I was hoping to hear more about {topic} {when}
and then a follow-up on {topic}, which was {good} in {quarter}
maybe {answerer} can comment on {topic} as well
and how does {driver} change your plan to {goal}?
just to clarify, was the {money} all in {quarter}?
so does the guidance of {price} include {driver}?
what are your assumptions for {driver} and {driver} {when}?
how many {thing} will you add {when}?
do you plan to {goal} or to {goal}?
""".strip().split("\n")

ANSWER_OPEN = """
sure, {asker}
thank you, {asker}
hi {asker}, great question
yes, {asker_name}
thank you for the question, {asker}
thanks, {asker}, that is a good question about {topic}
sure, {asker}, let me take that one on {topic}
yes, {asker}, I am happy to talk about {topic}
that is right, {asker}, {topic} is important for us
hi {asker}, thanks for asking about {topic}
good question, {asker}, and let me start with {region}
let me begin with {topic}, {asker}, and then {other_officer} can add to it
well, {asker}, we do not guide on {topic}
no, {asker}, nothing has changed on {topic}
""".strip().split("\n")

ANSWERS = """
it is too early to say what {driver} will mean {when}
we do not give guidance on {topic}, but {size} {pct} is a fair number
I think {size} {pct} is the right way to think about it
most of that came from {driver}, and the rest from {driver}
about {pct} of it is {driver}
we feel {good} about {topic} and {sure} about {topic}
we are {sure}, but we are watching {topic} closely
there is more to do on {topic}, especially in {region}
as we said in {month}, our goal is to {goal}
our view on {topic} has not changed since {quarter}
the way we look at it, {topic} is a matter of {driver}
the short answer is {small} {thing} {when}
it depends on {driver} and on {topic}
we have seen {driver} in {region}, but not in {region}
what we hear from {group} is {good}
I would not read too much into {topic}, because {driver} can play a role
we can {goal} and still {goal}
if {driver} continues, we could reach {pct} {when}
you should see {topic} improve {when}, maybe by {bps} basis points
last year it was {money}, and this year it should be {money}
we have {small} {thing} in {region} and expect {small} more {when}
that number was {pct} in {year}, and now it is {pct}
our {product} is doing well with {group}
{group} are asking for the {product}, and we deliver
we talk to {group} every day, and they want {driver}
to your second question, {topic} will be {good} {when}
to your point, {driver} was worth {size} {money}
on {topic}, we want to {goal} without hurting margins
I do not see {driver} as a problem for {segment}
the {segment} team has a plan to {goal} {when}
maybe {other_officer} wants to say a word on {topic}
we will share more at our investor day in {month}
we will update you on {topic} when we report {quarter}
let me give you an example from {region}
we signed {other} in {month}, and that took {small} months
we are already seeing {driver} in the {product} business
""".strip().split("\n")

FOLLOW_UP = """
thank you, {answerer}
great, thanks, {answerer}
okay, thank you, {answerer}
thanks, {answerer_name}
thank you very much, {answerer_name}
that is helpful, {answerer}, thank you
thanks, {answerer}, that is very clear on {topic}
great, thank you, {answerer}, and good luck in {quarter}
okay, {answerer}, I will follow up on {topic} with your team
perfect, that helps with {topic}, {answerer}
very helpful, and congratulations again to {answerer}
all right, thanks, {answerer}, I appreciate the color on {topic}
understood, {answerer}, and best of luck with the {product}
""".strip().split("\n")

CLOSING = """
thank you all for your interest in {company}
thank you for your time today, and we look forward to speaking with you in {month}
we look forward to seeing many of you in {region} in {month}
on behalf of everyone at {company}, thank you for joining us in {month}
have a great {day}, and we will speak again after {quarter}
""".strip().split("\n")

FILLERS = ("uh", "um", "you know", "uh", "I mean", "um")
