"""The words that fill the slots of the demo corpus; in each list the frequent ones come first."""

# ruff: noqa: SIM905  (words are read best as a line of words)

from __future__ import annotations

FIRST = (
    "Maria John Sarah David Laura Peter Anna Michael Emma Robert Julia Thomas Karen Daniel Susan Mark Helen Paul Diana "
    "Martin Rachel Steven Claire Kevin Monica Brian Victoria Andrew Nadia Patrick Sophie Oliver Teresa Hugo Elena "
    "Frank Amanda Victor Irene Simon Carla George Melissa Adrian Olivia Leonard Beatrice Samuel Vanessa Gordon Natalie "
    "Raymond Dennis Gloria Walter"
).split()

LAST = (
    "Miller Carter Johnson Novak Bennett Alvarez Thompson Parker Fischer Morgan Sullivan Rossi Walker Lindberg Cooper "
    "Mendes Harris Kowalski Murphy Jansen Taylor Dubois Campbell Santos Peterson Moretti Hughes Larsen Coleman Weber "
    "Anderson Ferreira Mitchell Nielsen Douglas Romano Gallagher Becker Richards Castillo Hamilton Virtanen Brooks "
    "Petrov Donovan Sandoval Whitman Kaplan Sterling Lombardi Ashford Delgado Winslow Bergman Hayward Tanaka Prescott "
    "Kellerman Fairbanks Marino Vasquez Thornton Aldridge"
).split()

COMPANY_HEAD = (
    "Northbridge Silverline Atlas Meridian Pioneer Evergreen Summit Bluewater Crescent Falcon Harbor Granite Horizon "
    "Keystone Lakeside Mercury Orion Redwood Sterling Titan Vanguard Westfield Aurora Beacon Cobalt Delta Everest "
    "Frontier Galaxy Heritage Juniper Liberty Magnolia Nimbus Oakmont Pacific Quantum Ridgeway Sapphire Trident "
    "Unity Valley Windsor Zenith Copperfield Ironwood Maple Riverside Stonegate Continental"
).split()

COMPANY_TAIL = (
    "Energy Software Foods Logistics Medical Industries Semiconductor Materials Airlines Retail Networks Therapeutics "
    "Financial Robotics Water Chemicals Motors Media Insurance Packaging"
).split()

BANKS = (
    "Morgan Capital,Eastgate Securities,Redstone Partners,Union Research,Baker Brothers,First Harbor Bank,"
    "Clearview Advisors,Highland Markets,Stanton Equity,Atlantic Securities,Bridgeport Capital,Summit Research,"
    "Whitehall Partners,Cardinal Advisors,Lexington Bank,Riverton Equity"
).split(",")

LISTS: dict[str, list[str]] = {
    # Figures that are amounts of money, and figures that are shares.
    "amount": (
        "revenue,operating income,free cash flow,net sales,gross profit,adjusted EBITDA,net income,cash flow,"
        "total revenue,"
        "capital spending,service revenue,backlog,recurring revenue,product revenue,operating profit,deferred revenue,"
        "research spending,licensing revenue,working capital,inventory"
    ).split(","),
    "ratio": (
        "gross margin,operating margin,market share,the tax rate,customer retention,capacity utilization,net margin,"
        "the attach rate,segment margin,renewal rate,occupancy,the churn rate"
    ).split(","),
    "segment": (
        "cloud,consumer,enterprise,industrial,services,wireless,automotive,healthcare,retail,storage,software,"
        "commercial,"
        "international,wholesale,digital,aerospace,residential,specialty"
    ).split(","),
    "product": (
        "platform,software,new product,sensor,battery,subscription,device,mobile application,engine,vaccine,turbine,"
        "payment system,display,loyalty program,analytics tool,data center,network,test kit,premium brand,"
        "security suite"
    ).split(","),
    "region": (
        "North America,Europe,China,Asia,Latin America,Germany,India,Japan,the United States,Brazil,Canada,"
        "Mexico,France,"
        "the Middle East,Australia,Korea,Spain,Southeast Asia,Italy,Poland,Africa,Texas,California,Scandinavia"
    ).split(","),
    "driver": (
        "higher volume,strong demand,better pricing,lower costs,new customers,currency,a better mix,cost savings,"
        "price increases,the acquisition,higher freight costs,productivity,new product launches,wage inflation,"
        "a weaker dollar,seasonal demand,energy prices,the timing of orders,digital sales,raw material costs,"
        "large contracts,fewer discounts,lower interest expense,the weather,foreign exchange"
    ).split(","),
    "good": (
        "strong,solid,encouraging,healthy,better than expected,very strong,robust,stable,impressive,excellent,"
        "outstanding,remarkable"
    ).split(","),
    "bad": "weak,soft,challenging,difficult,slower than planned,uncertain,volatile,mixed,disappointing,uneven".split(
        ","
    ),
    "up": "grew,increased,rose,improved,expanded,climbed,advanced,accelerated".split(","),
    "down": "declined,fell,decreased,dropped,slowed,contracted".split(","),
    "upto": "grew to,increased to,came in at,rose to,reached,was,totaled,climbed to,improved to".split(","),
    "period": (
        "the quarter,the first half,the full year,the second half,the month of {month},the last twelve months,"
        "the holiday season,the first nine months"
    ).split(","),
    "when": (
        "this year,next year,in {quarter},in the {nth} quarter,this quarter,in {year},by the end of {year},"
        "next quarter,"
        "over the next few years,in the second half,early next year,in the coming months,by {month}"
    ).split(","),
    "nth": "first second third fourth".split(),
    "month": "March June September December January April October July November May February August".split(),
    "group": (
        "customers,employees,partners,investors,shareholders,suppliers,our teams,engineers,distributors,patients,"
        "retailers,developers,merchants,hospitals,operators,manufacturers"
    ).split(","),
    "thing": (
        "stores,customers,new accounts,employees,units,sites,contracts,orders,machines,locations,vehicles,subscribers,"
        "patents,hospitals,warehouses,trucks,homes,clinics,licenses,devices"
    ).split(","),
    "topic": (
        "pricing,demand,the guidance,margins,inventory,the pipeline,capital allocation,competition,the supply chain,"
        "hiring,the acquisition,cash flow,the backlog,customer churn,freight costs,tariffs,the buyback,regulation,"
        "the new factory,working capital,cybersecurity,the dividend,automation,artificial intelligence"
    ).split(","),
    "goal": (
        "grow faster than the market,return cash to shareholders,improve our margins,reduce our debt,invest in growth,"
        "simplify the business,expand our capacity,win market share,protect our customers,lower our emissions,"
        "launch new products,build a stronger brand,keep costs under control,hire the best people,open new stores,"
        "modernize our plants,shorten delivery times,improve quality,grow the dividend,enter new markets"
    ).split(","),
    "action": (
        "opened a new plant in {region},signed a contract with a large customer,completed the acquisition of {other},"
        "launched a new {product},reduced our headcount by {pct},bought back {count} shares,paid down {money} of debt,"
        "renewed our agreement with {other},closed {small} sites,hired {count} people,moved production to {region},"
        "raised the dividend by {pct},refinanced our credit facility,sold our {segment} business,"
        "opened {small} stores in {region},invested {money} in our {segment} business,doubled our sales force,"
        "received approval for our {product},cut delivery times by {pct},started a pilot with {other},"
        "upgraded our warehouses,appointed a new leader for {segment}"
    ).split(","),
    "change": "up,down,higher,lower".split(","),
    "size": "about,around,roughly,more than,nearly,almost,approximately,just over,slightly below,close to".split(","),
    "sure": "confident,optimistic,pleased,comfortable,excited,cautious,proud,convinced,realistic,hopeful".split(","),
    "small": "two three five six four eight ten twelve seven nine fifteen twenty thirty fifty".split(),
}
