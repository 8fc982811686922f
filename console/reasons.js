// Why a candle is not held: the words of GET /coverage/gaps, for people.

export const REASONS = {
  not_collected: ["Not collected", "It was never asked for. Collecting asks the exchange for it."],
  unexplained: [
    "Unexplained",
    "The exchange was asked and sent nothing, and nothing says why. Collecting asks again.",
  ],
  exchange_outage: ["Exchange outage", "Nearly all symbols have no candle here: the exchange was down."],
  no_trades: ["No trades", "Nobody traded, as often as this symbol is traded."],
  before_listing: ["Before listing", "The symbol was not traded on the exchange yet."],
  delisted: ["Delisted", "The exchange does not list the symbol any more."],
  invalid: ["Invalid", "The exchange sent something that cannot be a candle."],
  not_yet_final: ["Still open", "The candle has not closed yet."],
};

export const reasonName = (reason) => REASONS[reason]?.[0] ?? reason;
export const reasonText = (reason) => REASONS[reason]?.[1] ?? "";

/** Whether POST /coverage/fill asks the exchange for it. */
export const isMissing = (reason) => reason === "not_collected" || reason === "unexplained";

/** Colours come from style sheets: the class of a reason's band and mark. */
export const reasonClass = (reason) =>
  isMissing(reason) ? "gap-missing" : reason === "not_yet_final" ? "gap-open" : "gap-explained";
